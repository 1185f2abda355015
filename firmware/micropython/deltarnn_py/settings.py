"""What may change at run time: rates, thresholds, seed and step number."""

from . import scales
from .image import Image

_UINT32_MAX = 0xFFFFFFFF


class Settings:
    """Of a network; `drnn_config_t`."""

    def __init__(self, image: Image) -> None:
        """Those of the model; beta, seed and step are 0."""
        self._n_layers = len(image.layers)
        self.learning_rate, self.clip = image.learning_rate, image.clip
        self.beta = (0, 0)
        self.theta_x = tuple([layer.theta_x for layer in image.layers])
        self.theta_h = tuple([layer.theta_h for layer in image.layers])
        self.seed = self.step = 0

    def change(self, **changes) -> None:
        """Set those that are not None; ValueError, and nothing has changed, where one is out of range."""
        new = {}
        for name, value in changes.items():
            if value is not None:
                new[name] = self._checked(name, value)
        for name, value in new.items():
            setattr(self, name, value)

    def _checked(self, name: str, value):
        if name == "seed" or name == "step":
            is_valid = 0 <= value <= _UINT32_MAX
        elif name == "theta_x" or name == "theta_h":
            value = tuple(value)
            is_valid = len(value) == self._n_layers and all([0 <= theta <= 32767 for theta in value])
        else:
            value = tuple(value)
            check = {"learning_rate": scales.is_learning_rate, "clip": scales.is_clip, "beta": scales.is_beta}[name]
            is_valid = len(value) == 2 and check(value)
        if not is_valid:
            raise ValueError("%s %s is out of range" % (name, value))
        return value
