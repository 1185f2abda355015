"""Data sets: the embedded one, wav files good and bad, folders, splits."""

from __future__ import annotations

import io
import os
import re
import shutil
import struct
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from deltatrain import datasets
from deltatrain.datasets import Dataset, digits, fsdd
from deltatrain.datasets.wav import read_wav
from deltatrain.errors import DataError, InputError
from deltatrain.features import FeatureConfig, fit_standardisation, log_mel

ROOT = Path(__file__).resolve().parent.parent
RATE = 8000


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, n_samples).astype("<i2")


def write_wav(path: Path, samples: np.ndarray, rate: int = RATE, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(samples.dtype.itemsize)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


@pytest.fixture(scope="module")
def embedded() -> Dataset:
    return datasets.load("digits")


@pytest.fixture
def small() -> Dataset:
    """Three speakers, two classes, six recordings of each; each feature value says which item it is."""
    keys = [(s, c, i) for s in ("ann", "bob", "eve") for c in (0, 1) for i in range(6)]
    return Dataset(
        name="small",
        features=tuple(np.full((3, 16), n, dtype=np.float32) for n in range(len(keys))),
        labels=np.array([c for _, c, _ in keys]),
        speakers=tuple(s for s, _, _ in keys),
        indices=np.array([i for _, _, i in keys]),
        class_names=("no", "yes"),
        config=FeatureConfig(),
        was_cut=np.array([i == 0 for _, _, i in keys]),
    )


# -- the embedded set ---------------------------------------------------------------------------------------


def test_digits_hold_what_they_promise(embedded: Dataset) -> None:
    assert len(digits.VOICES) >= 12 and digits.N_RENDERINGS >= 20
    assert len(set(digits.VOICES)) == len(digits.VOICES)
    keys = set(zip(embedded.speakers, embedded.labels.tolist(), embedded.indices.tolist(), strict=True))
    assert keys == {(v, c, i) for v in digits.VOICES for c in range(10) for i in range(digits.N_RENDERINGS)}
    assert len(keys) == len(embedded)
    assert embedded.class_names[7] == "seven"
    assert not embedded.config.is_standardised


def test_digits_are_small_and_say_how_many_were_cut(embedded: Dataset) -> None:
    assert digits.FILE.stat().st_size <= 2_000_000
    lengths = np.array([len(f) for f in embedded.features])
    assert lengths.max() == embedded.config.max_frames
    uncut = datasets.load("digits", config=FeatureConfig(max_frames=1000))
    full = np.array([len(f) for f in uncut.features])
    assert embedded.n_cut == (full > 64).sum() > 0
    assert uncut.n_cut == 0
    assert (np.minimum(full, 64) == lengths).all()


def test_no_two_renderings_are_the_same(embedded: Dataset) -> None:
    assert len({item.tobytes() for item in embedded.features}) == len(embedded)


def test_digits_refuse_other_features() -> None:
    with pytest.raises(InputError, match="n_bands"):
        datasets.load("digits", config=FeatureConfig(n_bands=20))


def test_a_model_s_standardised_settings_give_raw_features(embedded: Dataset) -> None:
    fitted = fit_standardisation(embedded.config, embedded.features[:50])
    again = datasets.load("digits", config=fitted)
    assert not again.config.is_standardised
    assert np.array_equal(again.features[9], embedded.features[9])


def test_packing_rounds_to_the_step_and_no_more() -> None:
    rng = np.random.default_rng(6)
    given = tuple(rng.uniform(-13.8, 9, (t, 16)) for t in (1, 40, 7))
    got = digits.unpack(digits.pack(given))
    assert [len(g) for g in got] == [1, 40, 7]
    for a, b in zip(given, got, strict=True):
        assert np.abs(a - b).max() <= digits.STEP / 2
    assert digits.pack(given) == digits.pack(given)


def test_damaged_packed_features_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = digits.pack((np.zeros((900, 16)) + np.arange(900)[:, None] % 7,))
    for bad in (b"", data[:-20], b"not a zip file", data.replace(b"lengths", b"strengt")):
        with pytest.raises(DataError, match="damaged"):
            digits.unpack(bad)
    monkeypatch.setattr(digits, "FILE", tmp_path / "digits.npz")
    with pytest.raises(DataError, match="install deltatrain again"):
        datasets.load("digits")
    (tmp_path / "digits.npz").write_bytes(data)
    with pytest.raises(DataError, match="holds 1 renderings"):
        datasets.load("digits")


def test_shipped_digits_are_what_the_script_makes(embedded: Dataset) -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed; the shipped features do not need it")
    said = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True, check=True).stdout
    if digits.SYNTHESISER.split()[1] not in said:
        pytest.skip(f"the shipped features were made with {digits.SYNTHESISER}; here is {said.strip()}")
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]; import numpy as np, make_digits as m\n"
        "from deltatrain.datasets import digits as d; from deltatrain.features import log_mel\n"
        "np.savez(sys.stdout.buffer, *[log_mel(m.render(v, w, i, 8000), d.CONFIG)"
        " for v, w, i in ((d.VOICES[0], 'zero', 0), (d.VOICES[5], 'six', 23), (d.VOICES[13], 'nine', 7))])"
    )
    made = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "tools"), str(ROOT / "host")], capture_output=True, check=True
    )
    with np.load(io.BytesIO(made.stdout)) as file:
        renderings = [file[name] for name in ("arr_0", "arr_1", "arr_2")]
    n = digits.N_RENDERINGS
    for item, features in zip((0, (5 * 10 + 6) * n + 23, (13 * 10 + 9) * n + 7), renderings, strict=True):
        shipped = embedded.features[item]
        # Half a step of rounding, and the last bits of another FFT library.
        assert np.abs(features[: len(shipped)] - shipped).max() <= digits.STEP / 2 + 1e-6


def test_known_voices_are_alike_and_held_out_ones_are_not(embedded: Dataset) -> None:
    """Nearest class mean over stretched features: a crude model that errs more on voices it has not met."""

    def stretched(item: np.ndarray) -> np.ndarray:
        rows = np.linspace(0, len(item) - 1, 12)
        columns = [np.interp(rows, np.arange(len(item)), band) for band in item.T]
        flat = np.concatenate(columns)
        return np.asarray(flat - flat.mean())

    x = np.stack([stretched(item) for item in embedded.features])
    train, test = datasets.index_split(embedded, digits.TEST_INDICES, digits.HELD_OUT_VOICES)
    held_out = np.flatnonzero(np.isin(embedded.speakers, digits.HELD_OUT_VOICES))
    y = embedded.labels
    means = [x[train][y[train] == c].mean(axis=0) for c in range(10)]
    distance = np.stack([((x - m) ** 2).sum(axis=1) for m in means])
    wrong = distance.argmin(axis=0) != y
    assert wrong[held_out].mean() > 2 * wrong[test].mean()
    assert wrong[held_out].mean() < 0.7


# -- wav files ----------------------------------------------------------------------------------------------


def test_wav_samples_are_read_exactly(tmp_path: Path) -> None:
    samples = np.array([-32768, -1, 0, 1, 32767], dtype="<i2")
    assert (read_wav(write_wav(tmp_path / "a.wav", samples), RATE) * 32768 == samples).all()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("rate", "16000 Hz, expected 8000 Hz; convert it with `sox bad.wav -r 8000 -c 1 -b 16"),
        ("stereo", "2 channels, expected 1.*sox"),
        ("empty", "holds no sample"),
        ("zero bytes", "ends inside its wav header"),
        ("header only", "ends inside its wav header"),
        ("truncated", "truncated: its header announces 1000 samples, 700 are there"),
        ("odd byte", "truncated: its header announces 1000 samples, 699 are there"),
        ("8-bit", "8-bit samples, expected 16-bit.*sox"),
        ("float", "no 16-bit PCM wav file.*sox"),
        ("text", "no 16-bit PCM wav file"),
        ("missing", "No such file"),
        ("directory", "cannot be read"),
    ],
)
def test_wav_files_that_cannot_be_used(kind: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.wav"
    whole = write_wav(tmp_path / "good.wav", noise(1000)).read_bytes()
    match kind:
        case "rate":
            write_wav(path, noise(1000), rate=16000)
        case "stereo":
            write_wav(path, noise(1000), channels=2)
        case "empty":
            write_wav(path, noise(0))
        case "zero bytes":
            path.write_bytes(b"")
        case "header only":
            path.write_bytes(whole[:20])
        case "truncated":
            path.write_bytes(whole[:-600])
        case "odd byte":
            path.write_bytes(whole[:-601])
        case "8-bit":
            write_wav(path, np.zeros(1000, dtype=np.uint8))
        case "float":
            path.write_bytes(whole[:20] + struct.pack("<H", 3) + whole[22:])
        case "text":
            path.write_text("RIFF? no, this is a text file that someone named so")
        case "directory":
            path.mkdir()
    with pytest.raises(DataError, match=words) as caught:
        read_wav(path, RATE)
    assert str(path) in str(caught.value)


# -- folders and fsdd ---------------------------------------------------------------------------------------


def test_fsdd_names_say_digit_speaker_and_number(tmp_path: Path) -> None:
    folder = tmp_path / "fsdd" / "recordings"
    long = noise(200 + 64 * 80)  # 65 frames
    write_wav(folder / "7_ann_10.wav", noise(1000))
    write_wav(folder / "7_ann_9.wav", long)
    write_wav(folder / "0_mary_jane_3.wav", noise(2000, seed=8))
    (folder / "notes.txt").write_text("passed over")
    data = datasets.load("fsdd", tmp_path)
    assert data.speakers == ("mary_jane", "ann", "ann")
    assert data.labels.tolist() == [0, 7, 7]
    assert data.indices.tolist() == [3, 9, 10]
    assert [len(f) for f in data.features] == [23, 64, 11]
    assert data.n_cut == 1
    assert data.select([0, 2]).n_cut == 0
    expected = log_mel(noise(2000, seed=8) / 32768, data.config)
    assert data.features[0] == pytest.approx(expected, abs=1e-5)
    assert data.features[0].dtype == np.float32
    assert data[1].speaker == "ann" and data[1].label == 7 and data[1].index == 9


def test_fsdd_absent_says_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DELTATRAIN_DATA", raising=False)
    for place in (None, tmp_path):
        with pytest.raises(DataError) as caught:
            datasets.load("fsdd", place)
        for words in (
            "github.com/Jakobovski/free-spoken-digit-dataset",
            "CC BY-SA",
            "--data-dir",
            "DELTATRAIN_DATA",
        ):
            assert words in str(caught.value)
    (tmp_path / "recordings").mkdir()
    with pytest.raises(DataError, match="not `fsdd` itself"):
        datasets.load("fsdd", tmp_path)


def test_the_environment_names_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wav(tmp_path / "fsdd" / "recordings" / "1_a_0.wav", noise(900))
    monkeypatch.setenv("DELTATRAIN_DATA", str(tmp_path))
    assert len(datasets.load("fsdd")) == 1


@pytest.mark.parametrize("name", ["ann.wav", "12_ann_3.wav", "3_ann.wav", "x_ann_3.wav"])
def test_a_misnamed_recording_of_fsdd_is_an_error(name: str, tmp_path: Path) -> None:
    write_wav(tmp_path / "fsdd" / "recordings" / name, noise(900))
    with pytest.raises(DataError, match="not named as a recording of fsdd"):
        datasets.load("fsdd", tmp_path)


def test_a_recording_without_one_window_names_its_file(tmp_path: Path) -> None:
    write_wav(tmp_path / "fsdd" / "recordings" / "1_a_0.wav", noise(150))
    with pytest.raises(DataError, match=r"1_a_0.wav cannot be used: audio has 150 samples"):
        datasets.load("fsdd", tmp_path)


def test_a_folder_is_a_data_set(tmp_path: Path) -> None:
    for name in ("stop/ann_b.wav", "stop/ann_a.wav", "go/bob_1.WAV", "go/ann_x_y.wav"):
        write_wav(tmp_path / name, noise(1000))
    (tmp_path / ".git").mkdir()
    (tmp_path / "go" / ".hidden.wav").write_text("passed over")
    data = datasets.load(str(tmp_path))
    assert data.class_names == ("go", "stop")
    assert data.speakers == ("ann", "bob", "ann", "ann")
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert data.indices.tolist() == [0, 0, 0, 1]


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"at least 2 class folders, it has 0; .*_<anything>\.wav, .*_<anything>\.npz"):
        datasets.load(str(tmp_path))
    write_wav(tmp_path / "go" / "ann_1.wav", noise(900))
    (tmp_path / "stop").mkdir()
    with pytest.raises(DataError, match="stop holds no wav file"):
        datasets.load(str(tmp_path))
    write_wav(tmp_path / "stop" / "1.wav", noise(900))
    with pytest.raises(DataError, match="does not say who speaks"):
        datasets.load(str(tmp_path))


@pytest.mark.parametrize(
    ("given", "made", "hint"),
    [
        ("fsdd", "fsdd/recordings", "--data fsdd --data-dir {}$"),
        (".", "fsdd/recordings", "--data fsdd --data-dir {}$"),
        ("speech", "speech/recordings", "--data fsdd --data-dir {}, the folder renamed to fsdd$"),
        ("har", "har/RawData", "--data har --data-dir {}$"),
        ("mine", "mine/go", r"npz with x and targets$"),
    ],
)
def test_the_folder_of_a_public_set_is_recognised(given: str, made: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / made).mkdir(parents=True)
    with pytest.raises(DataError, match=hint.format(re.escape(str(tmp_path.resolve())))):
        datasets.load(str(tmp_path / given))


def test_fewer_or_more_frames_may_be_kept() -> None:
    few, many = (datasets.load("digits", max_frames=limit) for limit in (20, 200))
    assert max(map(len, few.features)) == few.config.max_frames == 20 and few.n_cut > 0
    assert many.config.max_frames == 200 and many.n_cut == 0


@pytest.mark.parametrize("name", ["digit", "", "/nowhere/at/all"])
def test_unknown_names_list_the_known_ones(name: str) -> None:
    with pytest.raises(DataError, match="give one of digits, fsdd, gscd, har, or a folder"):
        datasets.load(name)


@pytest.mark.skipif(
    "DELTATRAIN_DATA" not in os.environ or not (Path(os.environ["DELTATRAIN_DATA"]) / "fsdd").is_dir(),
    reason="set DELTATRAIN_DATA to a folder that holds fsdd to read the real recordings",
)
def test_real_fsdd() -> None:
    data = datasets.load("fsdd")
    assert len(data) >= 10 and set(data.labels.tolist()) == set(range(10))
    assert 0 < data.n_cut < 0.2 * len(data)
    frames = np.concatenate(data.features)
    # Well-conditioned: hardly a value at the floor, every band spreads by a few nats.
    assert (frames < np.log(2e-6)).mean() < 0.05
    assert (frames.std(axis=0) > 2).all() and (frames.std(axis=0) < 6).all()
    train, test = datasets.index_split(data, fsdd.OFFICIAL_TEST_INDICES)
    assert len(train) + len(test) == len(data)


# -- Dataset and splits -------------------------------------------------------------------------------------


def test_select_by_mask_and_by_number(small: Dataset) -> None:
    assert [f[0, 0] for f in small.select([5, 2]).features] == [5, 2]
    ann = small.select(np.array([s == "ann" for s in small.speakers]))
    assert len(ann) == 12 and ann.speaker_names == ("ann",) and ann.n_cut == 2
    assert len(small.select([])) == 0
    for chosen in ([36], [-1], [0.5], np.ones(3, dtype=bool), [[1]]):
        with pytest.raises(InputError):
            small.select(chosen)


def test_a_data_set_checks_its_fields() -> None:
    good = {
        "name": "x",
        "features": (np.zeros((3, 16), dtype=np.float32),),
        "labels": np.array([1]),
        "speakers": ("ann",),
        "indices": np.array([0]),
        "class_names": ("no", "yes"),
        "config": FeatureConfig(),
    }
    Dataset(**good)  # type: ignore[arg-type]
    nan = np.zeros((3, 16), dtype=np.float32)
    nan[1, 1] = np.nan
    for field, value, words in [
        ("labels", np.array([2]), "label 2 of item 0 is out of range.*0 to 1"),
        ("labels", np.array([-1]), "label -1"),
        ("labels", np.array([0, 1]), "labels"),
        ("speakers", (), "speakers"),
        ("features", (np.zeros((0, 16), dtype=np.float32),), "0 frames; expected 1 to 64"),
        ("features", (np.zeros((65, 16), dtype=np.float32),), "65 frames"),
        ("features", (np.zeros((3, 15), dtype=np.float32),), r"\(3, 15\)"),
    ]:
        with pytest.raises(InputError, match=words):
            Dataset(**{**good, field: value})  # type: ignore[arg-type]
    with pytest.raises(DataError, match="NaN or infinity"):
        Dataset(**{**good, "features": (nan,)})  # type: ignore[arg-type]


def test_personal_split(small: Dataset) -> None:
    train, test = datasets.personal_split(small, "bob", per_class=2, seed=3)
    assert len(train) == 4 and np.bincount(small.labels[train]).tolist() == [2, 2]
    assert sorted([*train, *test]) == [i for i, s in enumerate(small.speakers) if s == "bob"]
    again, _ = datasets.personal_split(small, "bob", per_class=2, seed=3)
    assert train.tolist() == again.tolist()
    draws = {tuple(datasets.personal_split(small, "bob", 2, seed)[0]) for seed in range(8)}
    assert len(draws) > 4
    # Shuffled: training is not class after class.
    assert any(small.labels[list(draw)].tolist() not in ([0, 0, 1, 1], [1, 1, 0, 0]) for draw in draws)


@pytest.mark.parametrize(
    ("speaker", "per_class", "seed", "words"),
    [
        ("zoe", 2, 0, "'zoe' is not in data set small; its speakers are ann, bob, eve"),
        ("bob", 6, 0, "bob has 6 recordings of `no`"),
        ("bob", 0, 0, "at least 1"),
        ("bob", 2, -1, "seed is -1"),
    ],
)
def test_personal_splits_that_cannot_be(small: Dataset, speaker: str, per_class: int, seed: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        datasets.personal_split(small, speaker, per_class, seed)


def test_pretrain_split_leaves_the_held_out_speaker_out(small: Dataset) -> None:
    train, validation = datasets.pretrain_split(small, ["bob"], 1 / 3, seed=0)
    assert {small.speakers[i] for i in [*train, *validation]} == {"ann", "eve"}
    assert len(train) == 16 and len(validation) == 8 and not set(train) & set(validation)
    assert np.bincount(small.labels[validation]).tolist() == [4, 4]
    everyone, none = datasets.pretrain_split(small, [], 0.0, seed=0)
    assert len(everyone) == 36 and len(none) == 0
    for holdout, fraction, words in [
        (["zoe"], 0.1, "zoe"),
        (["ann", "bob", "eve"], 0.1, "nobody is left"),
        ([], 1.0, "below 1"),
    ]:
        with pytest.raises(InputError, match=words):
            datasets.pretrain_split(small, holdout, fraction, seed=0)


def test_pretrain_split_takes_its_share_of_many_speakers_with_few_recordings() -> None:
    n = 120
    data = Dataset(
        name="crowd",
        features=tuple(np.zeros((2, 16), np.float32) for _ in range(n)),
        labels=np.arange(n) % 2,
        speakers=tuple(f"s{i // 2}" for i in range(n)),
        indices=np.zeros(n, np.int64),
        class_names=("no", "yes"),
        config=FeatureConfig(),
    )
    train, validation = datasets.pretrain_split(data, [], 0.25, seed=0)
    assert np.bincount(data.labels[validation]).tolist() == [15, 15]
    assert sorted([*train, *validation]) == list(range(n))


def test_index_split(small: Dataset) -> None:
    train, test = datasets.index_split(small, range(4, 6), ["eve"])
    assert set(small.indices[test]) == {4, 5} and set(small.indices[train]) == {0, 1, 2, 3}
    assert len(train) == 16 and len(test) == 8
