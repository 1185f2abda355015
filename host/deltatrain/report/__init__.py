"""The main job as something to look at: one HTML page, and one picture for a README.

The page is a single file without external resources: its figures are inline SVG that follow the browser's light
or dark colours, and it prints in the light ones. The same story gives the same bytes.
"""

from deltatrain.report.page import write
from deltatrain.report.picture import main_picture

__all__ = ["main_picture", "write"]
