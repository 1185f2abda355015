"""Features: against a plain second computation, at their edges, and their settings as JSON."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from deltatrain.errors import InputError
from deltatrain.features import FeatureConfig, fit_standardisation, log_mel, mel_filterbank, standardise

CONFIG = FeatureConfig()


def tone(hertz: float, amplitude: float = 0.5, n_samples: int = 2000) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(n_samples) / CONFIG.sample_rate)


def plain_log_mel(audio: np.ndarray, frame: int, band: int) -> float:
    """One value straight from the definition: an explicit DFT and triangles drawn in Hz."""
    edge = [
        700 * (10 ** (m / 2595) - 1)
        for m in np.linspace(2595 * math.log10(1 + 80 / 700), 2595 * math.log10(1 + 3800 / 700), 18)
    ]
    low, centre, high = edge[band : band + 3]
    power = 0.0
    for k in range(129):
        hertz = k * 8000 / 256
        if low < hertz <= centre:
            weight = (hertz - low) / (centre - low)
        elif centre < hertz < high:
            weight = (high - hertz) / (high - centre)
        else:
            continue
        x = sum(
            audio[80 * frame + n] * (0.5 - 0.5 * math.cos(2 * math.pi * n / 200)) * np.exp(-2j * math.pi * k * n / 256)
            for n in range(200)
        )
        power += weight * abs(x) ** 2
    return math.log(power + 1e-6)


@pytest.mark.parametrize(("frame", "band"), [(0, 0), (3, 7), (5, 15)])
def test_values_follow_from_the_definition(frame: int, band: int) -> None:
    audio = np.random.default_rng(1).uniform(-0.3, 0.3, 900)
    assert log_mel(audio, CONFIG)[frame, band] == pytest.approx(plain_log_mel(audio, frame, band), abs=1e-9)


def test_number_of_frames() -> None:
    shapes = {n: log_mel(np.zeros(n), CONFIG).shape for n in (200, 279, 280, 8000)}
    assert shapes == {200: (1, 16), 279: (1, 16), 280: (2, 16), 8000: (98, 16)}


def test_silence_is_the_floor_and_full_scale_is_below_ten() -> None:
    assert log_mel(np.zeros(400), CONFIG) == pytest.approx(np.full((3, 16), math.log(1e-6)))
    assert 7 < log_mel(tone(1000, 1.0), CONFIG).max() < 10


def test_ten_times_the_amplitude_is_two_ln_ten_more() -> None:
    quiet, loud = (log_mel(tone(700, a), CONFIG).max(axis=1) for a in (0.05, 0.5))
    assert loud - quiet == pytest.approx(2 * math.log(10), abs=1e-3)


def test_a_tone_is_loudest_in_the_band_around_it() -> None:
    bins = np.arange(129) * 8000 / 256
    centres = bins[mel_filterbank(CONFIG).argmax(axis=0)]
    loudest = [int(log_mel(tone(hertz), CONFIG).mean(axis=0).argmax()) for hertz in centres]
    assert loudest == list(range(16))


@pytest.mark.parametrize(
    ("audio", "words"),
    [
        (np.zeros(0), "empty"),
        (np.zeros(199), "199 samples.*window of 200"),
        (np.zeros((400, 2)), r"shape \(400, 2\).*one channel"),
        (np.full(400, np.nan), "nan at sample 0"),
        (np.where(np.arange(400) == 7, np.inf, 0), "inf at sample 7"),
        (np.full(400, 1200.0), "1200; scale it"),
    ],
)
def test_audio_that_cannot_be_used(audio: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        log_mel(audio, CONFIG)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_fft": 128}, "200 samples.*n_fft = 128"),
        ({"sample_rate": 16000}, "400 samples"),
        ({"f_max": 4001.0}, "half the sample rate, 4000"),
        ({"f_min": -1.0}, "f_min is -1"),
        ({"f_max": math.nan}, "f_max is nan"),
        ({"hop_s": 0.0}, "less than one sample"),
        ({"max_frames": 0}, "max_frames is 0"),
        ({"n_bands": 2.5}, "n_bands is 2.5"),
        ({"log_floor": 0.0}, "log_floor is 0"),
        ({"mean": (0.0,) * 3}, "mean has 3 values"),
        ({"mean": (0.0,) * 16}, "come together"),
        ({"mean": (0.0,) * 16, "std": (0.0,) * 16}, "above 0"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        FeatureConfig(**settings)  # type: ignore[arg-type]


def test_a_band_without_a_bin_is_refused() -> None:
    with pytest.raises(InputError, match="holds no FFT bin"):
        mel_filterbank(FeatureConfig(n_bands=128))


def test_standardised_pretraining_data_have_mean_0_and_spread_1() -> None:
    rng = np.random.default_rng(2)
    raw = [rng.normal(-4, 3, (t, 16)) + np.arange(16) for t in (20, 31, 64)]
    config = fit_standardisation(CONFIG, raw)
    frames = np.concatenate([standardise(item, config) for item in raw])
    assert frames.mean(axis=0) == pytest.approx(np.zeros(16), abs=1e-12)
    assert frames.std(axis=0) == pytest.approx(np.ones(16))
    assert config.raw() == CONFIG


def test_a_constant_band_becomes_zero_not_noise() -> None:
    raw = np.random.default_rng(3).normal(size=(40, 16))
    raw[:, 5] = -13.8
    values = standardise(raw, fit_standardisation(CONFIG, [raw]))
    assert np.abs(values[:, 5]).max() < 1e-12 and np.abs(values[:, 4]).max() > 1


def test_standardising_what_cannot_be() -> None:
    good = np.zeros((4, 16))
    fitted = fit_standardisation(CONFIG, [np.random.default_rng(4).normal(size=(9, 16))])
    bad = good.copy()
    bad[2, 3] = np.nan
    for features, config, words in [
        (good, CONFIG, "call fit_standardisation"),
        (bad, fitted, "nan at frame 2, band 3"),
        (np.zeros((4, 15)), fitted, r"\(4, 15\)"),
        (np.zeros((0, 16)), fitted, "at least one frame"),
    ]:
        with pytest.raises(InputError, match=words):
            standardise(features, config)
    with pytest.raises(InputError, match="pre-training data are empty"):
        fit_standardisation(CONFIG, [])


def test_settings_survive_json() -> None:
    fitted = fit_standardisation(CONFIG, [np.random.default_rng(5).normal(size=(9, 16))])
    for config in (CONFIG, dataclasses.replace(CONFIG, max_frames=50), fitted):
        assert FeatureConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_settings_missing_unknown_or_of_another_type_are_refused() -> None:
    values = CONFIG.to_dict()
    with pytest.raises(InputError, match="n_bands"):
        FeatureConfig.from_dict({k: v for k, v in values.items() if k != "n_bands"})
    with pytest.raises(InputError, match="colour"):
        FeatureConfig.from_dict({**values, "colour": 3})
    with pytest.raises(InputError, match="cannot be read"):
        FeatureConfig.from_dict({**values, "mean": 3})
    with pytest.raises(InputError):
        FeatureConfig.from_dict({**values, "mean": ["a"] * 16, "std": [1.0] * 16})
