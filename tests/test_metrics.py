"""The metrics against closed forms and against NumPy in float64, on features that are known."""

import doctest
import json
import logging
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch_fidelity import feature_extractor_inceptionv3

from medsynth.configuration.objectives import logged_measures
from medsynth.contracts import FeatureExtractor, InputError, Metrics
from medsynth.metrics import distances, inception
from medsynth.metrics.collection import MetricCollection
from medsynth.metrics.distances import GenerativeMetrics
from medsynth.metrics.inception import InceptionExtractor
from medsynth.metrics.kernel import gaussian_kernel
from medsynth.metrics.neighbors import precision_recall_density_coverage
from medsynth.metrics.pixels import PixelExtractor
from medsynth.metrics.quantization import quantize, to_uint8


class Pixels(torch.nn.Module):
    """Pixels are the features, and the logits too."""

    name = "pixels"

    def __init__(self, num_features: int, canonical: bool = False):
        super().__init__()
        self.num_features = num_features
        self.canonical = canonical
        self.seen: list[torch.Tensor] = []

    def forward(self, images):
        self.seen.append(images)
        return images.flatten(1)

    def logits(self, features):
        return features


class Projection(torch.nn.Module):
    """A layer that autocast would run in bfloat16, after dropout that only eval mode switches off."""

    name, num_features = "projection", 3

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(6, 3))

    def forward(self, images):
        return self.layers(images.flatten(1))


def as_images(features) -> torch.Tensor:
    features = torch.as_tensor(features, dtype=torch.float32)
    return features[:, None, None, :]


def gaussian(num: int, num_features: int, *, seed: int, mean: float = 0.0, scale: float = 0.3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return as_images(mean + scale * torch.randn(num, num_features, generator=generator))


def values(metrics: GenerativeMetrics, real: torch.Tensor, fake: torch.Tensor, batch_size: int = 1000):
    metrics.reset_real()
    for images, is_real in ((real, True), (fake, False)):
        for batch in images.split(batch_size):
            metrics.update(batch, real=is_real)
    return metrics.compute()


def exact_samples(mean, factor) -> torch.Tensor:
    """Four points of the given mean whose unbiased covariance is ``factor @ factor.T``, exactly."""
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * np.sqrt(3 / 4)
    return as_images(np.array(mean) + corners @ np.array(factor).T)


def test_frechet_distance_of_two_gaussians_in_closed_form():
    factor_real, factor_fake = np.array([[0.5, 0.0], [0.3, 0.2]]), np.array([[0.1, 0.4], [0.0, 0.6]])
    real, fake = exact_samples([0.1, -0.2], factor_real), exact_samples([0.4, 0.2], factor_fake)
    # tr((A B)^1/2)^2 = tr(A B) + 2 det(A B)^1/2 for 2 x 2 matrices, by Cayley-Hamilton; A and B do not commute
    a, b = factor_real @ factor_real.T, factor_fake @ factor_fake.T
    assert not np.allclose(a @ b, b @ a)
    root_trace = np.sqrt(np.trace(a @ b) + 2 * abs(np.linalg.det(factor_real) * np.linalg.det(factor_fake)))
    expected = 0.3**2 + 0.4**2 + np.trace(a) + np.trace(b) - 2 * root_trace
    result = values(GenerativeMetrics(extractor=Pixels(2)), real, fake)
    assert result["fd_pixels"] == pytest.approx(expected, rel=1e-6)


def symmetric_root(matrix):
    eigenvalues, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(eigenvalues.clip(0))) @ vectors.T


def test_frechet_distance_agrees_with_numpy():
    mixing = torch.randn(12, 12, generator=torch.Generator().manual_seed(2)) / 4
    real, fake = gaussian(200, 12, seed=0) @ mixing, gaussian(150, 12, seed=1, mean=0.2)
    result = values(GenerativeMetrics(extractor=Pixels(12)), real, fake)
    x, y = real.flatten(1).double().numpy(), fake.flatten(1).double().numpy()
    cov_x, cov_y = np.cov(x.T), np.cov(y.T)
    root_x = symmetric_root(cov_x)
    cross = np.trace(symmetric_root(root_x @ cov_y @ root_x))
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cov_x) + np.trace(cov_y) - 2 * cross
    assert result["fd_pixels"] == pytest.approx(expected, rel=1e-6)
    assert (result["num_real"], result["num_fake"]) == (200, 150)


def squared_mmd(x, y) -> float:
    """The unbiased estimate, pair by pair."""

    def kernel(u, v):
        return (u @ v / len(u) + 1) ** 3

    m = len(x)
    within = sum(kernel(s[i], s[j]) for s in (x, y) for i in range(m) for j in range(m) if i != j)
    between = sum(kernel(u, v) for u in x for v in y)
    return within / (m * (m - 1)) - 2 * between / m**2


def test_kernel_distance_agrees_with_pairwise_sums():
    real, fake = gaussian(24, 5, seed=0), gaussian(24, 5, seed=1, mean=0.2)
    metrics = GenerativeMetrics(extractor=Pixels(5), kernel=True)
    result = values(metrics, real, fake)
    expected = squared_mmd(real.flatten(1).double().numpy(), fake.flatten(1).double().numpy())
    assert result["kd_pixels"] == pytest.approx(expected, rel=1e-10)  # float64 throughout
    assert result["kd_pixels_std"] == 0


def test_kernel_distance_is_near_zero_for_one_distribution_and_large_for_two():
    metrics = GenerativeMetrics(extractor=Pixels(8), kernel=True, kernel_subset_size=100, kernel_subsets=20)
    real = gaussian(500, 8, seed=0)
    same = values(metrics, real, gaussian(400, 8, seed=1))
    other = values(metrics, real, gaussian(400, 8, seed=2, mean=0.3))
    assert abs(same["kd_pixels"]) < same["kd_pixels_std"]
    assert other["kd_pixels"] > 20 * abs(same["kd_pixels"])


def test_kernel_subsets_fit_the_smaller_side():
    metrics = GenerativeMetrics(extractor=Pixels(5), kernel=True, kernel_subsets=5)
    result = values(metrics, gaussian(60, 5, seed=0), gaussian(7, 5, seed=1))
    assert result["kd_pixels_std"] > 0
    metrics.update(gaussian(53, 5, seed=2), real=False)  # and follow its growth
    assert metrics.compute()["kd_pixels_std"] == 0


def one_hot_logits(num: int, num_classes: int) -> torch.Tensor:
    return as_images(100 * torch.eye(num_classes)[torch.arange(num) % num_classes])


def test_inception_score_of_confident_uniform_and_of_constant_predictions():
    real = gaussian(10, 5, seed=0)
    one_part = GenerativeMetrics(extractor=Pixels(5), frechet=False, inception_splits=1)
    result = values(one_part, real, one_hot_logits(20, 5))
    assert result.keys() == {"is_pixels", "num_real", "num_fake"}
    assert result["is_pixels"] == pytest.approx(5, rel=1e-12)
    constant = as_images(torch.tensor([[0.5, 0.1, -0.3, 0.0, 0.2]]).repeat(20, 1))
    ten_parts = GenerativeMetrics(extractor=Pixels(5), frechet=False)
    result = values(ten_parts, real, constant)
    assert result["is_pixels"] == pytest.approx(1, rel=1e-12)
    assert result["is_pixels_std"] == pytest.approx(0, abs=1e-12)
    result = values(ten_parts, real, one_hot_logits(4000, 5))
    assert result["is_pixels"] == pytest.approx(5, rel=0.01)
    assert 0 < result["is_pixels_std"] < 0.05


def test_batches_do_not_matter():
    real, fake = gaussian(50, 6, seed=0), gaussian(40, 6, seed=1, mean=0.1)
    metrics = GenerativeMetrics(extractor=Pixels(6), kernel=True, kernel_subset_size=30)
    whole = values(metrics, real, fake)
    assert whole["kd_pixels_std"] > 0
    assert values(metrics, real, fake, batch_size=7) == pytest.approx(whole, rel=1e-9)


def test_features_are_computed_once_per_image():
    extractor = Pixels(6)
    metrics = GenerativeMetrics(extractor=extractor, kernel=True)
    assert extractor.seen == []  # no image is made up to find the number of features
    values(metrics, gaussian(9, 6, seed=0), gaussian(5, 6, seed=1))
    assert [len(images) for images in extractor.seen] == [9, 5]


def test_extractor_runs_frozen_and_in_full_precision():
    real, fake = gaussian(20, 6, seed=0), gaussian(20, 6, seed=1)
    torch.manual_seed(0)
    extractor = Projection().train()
    metrics = GenerativeMetrics(extractor=extractor, inception_score=False)
    plain = values(metrics, real, fake)
    assert not extractor.training
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert values(metrics, real, fake) == plain
    assert not isinstance(metrics, torch.nn.Module)


def test_reset_keeps_real_statistics():
    real, fake = gaussian(30, 4, seed=0), gaussian(25, 4, seed=1)
    metrics = GenerativeMetrics(extractor=Pixels(4), kernel=True)
    assert not metrics.has_real
    first = values(metrics, real, fake)
    metrics.reset()
    assert metrics.has_real
    metrics.update(gaussian(25, 4, seed=2, mean=0.5), real=False)
    assert metrics.compute()["fd_pixels"] > 2 * first["fd_pixels"]
    metrics.reset()
    metrics.update(fake, real=False)
    assert metrics.compute() == first
    metrics.reset_real()
    assert not metrics.has_real
    metrics.update(fake, real=False)
    with pytest.raises(InputError, match="0 real and 25 generated"):
        metrics.compute()


def test_inference_mode_does_not_stick():
    real, fake = gaussian(30, 4, seed=0), gaussian(25, 4, seed=1)
    metrics = GenerativeMetrics(extractor=Pixels(4), kernel=True)
    expected = values(metrics, torch.cat([real, real]), torch.cat([fake, fake]))
    with torch.inference_mode():
        values(metrics, real.clone(), fake.clone())
        metrics.reset()
        metrics.update(fake.clone(), real=False)
    metrics.update(real, real=True)
    metrics.update(fake, real=False)
    assert metrics.compute() == pytest.approx(expected)


def test_subsets_are_reproducible_and_leave_the_global_random_state():
    real, fake = gaussian(60, 4, seed=0), gaussian(50, 4, seed=1)
    metrics = GenerativeMetrics(extractor=Pixels(4), kernel=True, kernel_subset_size=20, seed=3)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = values(metrics, real, fake)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert values(metrics, real, fake) == first
    other = GenerativeMetrics(extractor=Pixels(4), kernel=True, kernel_subset_size=20, seed=4)
    other_values = values(other, real, fake)
    assert other_values["kd_pixels"] != first["kd_pixels"]
    assert other_values["is_pixels"] != first["is_pixels"]
    assert other_values["fd_pixels"] == first["fd_pixels"]


def test_names_follow_from_the_extractor():
    real, fake = gaussian(12, 4, seed=0), gaussian(12, 4, seed=1)
    embedded = GenerativeMetrics(extractor=Pixels(4), kernel=True, objective="kd_pixels")
    counts = {"num_real", "num_fake"}
    assert values(embedded, real, fake).keys() == counts | {
        "fd_pixels", "fd_pixels_low", "fd_pixels_high", "is_pixels", "is_pixels_std", "kd_pixels", "kd_pixels_std",
    }  # fmt: skip
    assert embedded.objective == "kd_pixels"
    canonical = GenerativeMetrics(extractor=Pixels(4, canonical=True), kernel=True, objective="fid")
    result = values(canonical, real, fake)
    assert result.keys() == counts | {"fid", "fid_low", "fid_high", "is", "is_std", "kid", "kid_std"}
    assert all(type(value) is float for value in result.values())
    assert isinstance(canonical, Metrics)
    assert isinstance(Pixels(4), FeatureExtractor)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "fid"}, r"metrics\.objective=fid .* fd_pixels"),
        ({"objective": "is_pixels"}, r"metrics\.objective=is_pixels"),  # higher is better
        ({"objective": "kd_pixels"}, r"metrics\.objective=kd_pixels"),  # not computed by default
        ({"frechet": False, "inception_score": False}, r"metrics\.frechet=true"),
        ({"kernel_subset_size": 1}, r"metrics\.kernel_subset_size"),
        ({"inception_splits": 0}, r"metrics\.inception_splits"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(InputError, match=message):
        GenerativeMetrics(extractor=Pixels(4), **options)


def test_inception_score_needs_a_classifier():
    with pytest.raises(InputError, match=r"metrics\.inception_score=false"):
        GenerativeMetrics(extractor=Projection())


@pytest.mark.parametrize(("num_real", "num_fake"), [(1, 5), (5, 1), (5, 0)])
def test_too_few_images(num_real, num_fake):
    metrics = GenerativeMetrics(extractor=Pixels(4))
    metrics.update(gaussian(num_real, 4, seed=0), real=True)
    metrics.update(gaussian(num_fake, 4, seed=1), real=False)
    with pytest.raises(InputError, match=f"{num_real} real and {num_fake} generated"):
        metrics.compute()


def test_values_that_are_not_finite():
    metrics = GenerativeMetrics(extractor=Pixels(4), quantize=True)  # rounding would hide them
    images = gaussian(5, 4, seed=0)
    images[3, 0, 0, 2] = torch.nan
    with pytest.raises(InputError, match=r"generated images have NaN .* diverged"):
        metrics.update(images, real=False)
    with pytest.raises(InputError, match=r"real images have NaN .* data"):
        metrics.update(images, real=True)
    broken = Projection()
    torch.nn.init.constant_(broken.layers[1].weight, torch.inf)
    with pytest.raises(InputError, match="projection gives NaN or infinite features for real"):
        GenerativeMetrics(extractor=broken, inception_score=False).update(gaussian(5, 6, seed=0), real=True)


def test_singular_covariance_is_told_once(caplog):
    metrics = GenerativeMetrics(extractor=Pixels(20), inception_score=False)
    with caplog.at_level(logging.WARNING, logger="medsynth"):
        values(metrics, gaussian(40, 20, seed=0), gaussian(30, 20, seed=1))
        assert not caplog.records
        for _ in range(2):
            values(metrics, gaussian(40, 20, seed=0), gaussian(15, 20, seed=1))
    assert [record.getMessage() for record in caplog.records if "15 images with 20 features" in record.getMessage()]
    assert len(caplog.records) == 1


def test_rounding_to_8_bits():
    levels = torch.arange(256) / 127.5 - 1
    assert torch.equal(to_uint8(levels), torch.arange(256, dtype=torch.uint8))
    assert to_uint8(torch.tensor([-1.5, -1, 0.0039, 1, 7])).tolist() == [0, 0, 128, 255, 255]
    fake = gaussian(30, 4, seed=1)
    assert (quantize(fake) - fake.clamp(-1, 1)).abs().max() <= 1 / 255 + 1e-6
    extractor = Pixels(4)
    values(GenerativeMetrics(extractor=extractor, quantize=True), fake, fake)
    assert torch.equal(extractor.seen[0], quantize(fake))


def test_example_in_the_docstring():
    assert doctest.testmod(distances) == doctest.TestResults(failed=0, attempted=6)


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory) -> Iterator[Path]:
    """The FID network's architecture with random weights, saved as torch-fidelity's file is."""
    network_class = feature_extractor_inceptionv3.FeatureExtractorInceptionV3
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_extractor_inceptionv3, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(network_class, "load_state_dict", lambda *_: None)
        network = network_class("inception-v3-compat", ["2048"])
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.mul_(6**0.5)  # from PyTorch's default variance to He's: signals reach the end
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(network.state_dict(), path)
    yield path
    path.unlink()  # 95 MB


def test_inception_network(random_weights, caplog, monkeypatch):
    extractor = InceptionExtractor(weights=str(random_weights))
    assert "not the published FID weights" in caplog.text
    assert GenerativeMetrics(extractor=extractor, objective="fd_inception").objective == "fd_inception"
    gray = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        features = extractor(gray)
        logits = extractor.logits(features)
        assert torch.allclose(extractor(quantize(gray).repeat(1, 3, 1, 1)), features)
    assert (features[0] - features[1]).abs().max() > 1e-3 * features.abs().max()

    # torch-fidelity's own forward, with its resizing, is the reference
    reference = feature_extractor_inceptionv3.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048", "logits_unbiased"], str(random_weights)
    )
    expected_features, expected_logits = reference(((gray + 1) * 127.5).round().byte().repeat(1, 3, 1, 1))
    torch.testing.assert_close(features, expected_features)
    torch.testing.assert_close(logits, expected_logits)

    with pytest.raises(InputError, match="1 or 3 channels, these have 4"):
        extractor(torch.zeros(1, 4, 8, 8))
    monkeypatch.setattr(inception, "WEIGHTS_SHA256", inception._sha256(random_weights))
    canonical = InceptionExtractor(weights=str(random_weights))
    assert GenerativeMetrics(extractor=canonical, objective="fid").objective == "fid"


def test_inception_weights_without_network(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(InputError) as raised:
        InceptionExtractor()
    place = tmp_path / "hub" / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    for part in (str(place), "no network", "metrics.extractor.weights=/path", "metrics=mini"):
        assert part in str(raised.value)
    place.write_bytes(b"cut off")
    with pytest.raises(InputError, match="not a PyTorch file of weights alone"):
        InceptionExtractor()
    place.unlink()
    torch.save({"fc.weight": torch.zeros(2, 2)}, place)
    with pytest.raises(InputError, match="another network"):
        InceptionExtractor()
    with pytest.raises(InputError, match="does not exist"):
        InceptionExtractor(weights=str(tmp_path / "absent.pth"))


def both_metrics(objective="fd_pixels"):
    coarse = GenerativeMetrics(
        extractor=PixelExtractor(channels=1, size=2), inception_score=False, objective="fd_pixels"
    )
    fine = PixelExtractor(channels=1, size=4)
    fine.name = "fine"
    parts = {"coarse": coarse, "fine": GenerativeMetrics(extractor=fine, inception_score=False, objective="fd_fine")}
    return MetricCollection(parts=parts, objective=objective)


def test_pixels_see_brightness_and_place_but_no_texture():
    extractor = PixelExtractor(channels=1, size=2)
    image = torch.zeros(1, 1, 8, 8)
    image[..., :4, :4] = 1.0
    assert extractor(image).tolist() == [[1.0, 0.0, 0.0, 0.0]]
    checkered = torch.zeros(1, 1, 8, 8)
    checkered[..., ::2] = 1.0
    assert extractor(checkered).tolist() == [[0.5] * 4]
    assert PixelExtractor(channels=3)(torch.zeros(2, 3, 16, 16)).shape == (2, 3 * 64)


def test_collection_computes_the_values_of_its_parts():
    metrics = both_metrics()
    real, fake = torch.rand(60, 1, 8, 8), torch.rand(60, 1, 8, 8) * 0.5
    assert not metrics.has_real
    metrics.update(real, real=True)
    metrics.update(fake, real=False)
    values = metrics.compute()
    assert metrics.has_real
    ends = {f"fd_{part}_{end}" for part in ("pixels", "fine") for end in ("low", "high")}
    assert set(values) == {"fd_pixels", "fd_fine", "num_real", "num_fake"} | ends
    alone = metrics.parts["fine"].compute()
    assert values["fd_fine"] == alone["fd_fine"]
    metrics.reset()
    metrics.update(fake, real=False)
    assert metrics.compute() == values


def test_collection_refuses_an_objective_that_no_part_has():
    with pytest.raises(InputError, match=r"metrics\.objective=fid is not computed: choose fd_pixels or fd_fine"):
        both_metrics("fid")


def declaration(**options):
    return {"_target_": "medsynth.metrics.distances.GenerativeMetrics", **options}


PIXELS = {"_target_": "medsynth.metrics.pixels.PixelExtractor", "channels": 1}


@pytest.mark.parametrize("kernel", [None, False, True])
@pytest.mark.parametrize("name", [None, "coarse"])
def test_declared_names_are_those_of_the_computed_values(kernel, name):
    options = {"inception_score": False} | ({} if kernel is None else {"kernel": kernel})
    extractor = PixelExtractor(channels=1, size=2)
    extractor.name = name or extractor.name
    metrics = GenerativeMetrics(extractor=extractor, **options)
    computed = values(metrics, torch.rand(20, 1, 8, 8), torch.rand(20, 1, 8, 8)).keys()
    main = [key for key in computed if not key.startswith("num_") and not key.endswith(("_low", "_high", "_std"))]
    extractor_options = PIXELS | ({"name": name} if name else {})
    assert tuple(logged_measures(declaration(extractor=extractor_options, **options))) == tuple(main)


def test_collection_declares_the_names_of_all_parts_or_none():
    own = {"_target_": "tests.test_metrics.Pixels", "num_features": 4}
    parts = {"a": declaration(extractor=PIXELS), "b": declaration(extractor=own, kernel=True)}
    collection = {"_target_": "medsynth.metrics.collection.MetricCollection", "parts": parts}
    assert logged_measures(collection) == {"fd_pixels": "lower", "is_pixels": "higher", "kd_pixels": "lower"}
    parts["c"] = {"_target_": "tests.test_metrics.Nameless"}
    assert logged_measures(collection) == {}


class Nameless:
    """Metrics that declare no names."""


def test_target_that_cannot_be_imported_is_refused():
    with pytest.raises(InputError, match=r"_target_: elsewhere\.Mine cannot be imported"):
        logged_measures({"_target_": "elsewhere.Mine"})


def everything():
    return GenerativeMetrics(extractor=Pixels(6), kernel=True, kernel_subset_size=20, kernel_subsets=5)


def test_values_do_not_depend_on_the_order_of_the_images():
    real, fake = gaussian(61, 6, seed=0), gaussian(48, 6, seed=1, mean=0.2)
    whole = values(everything(), real, fake)
    assert values(everything(), real.flip(0), fake.roll(7, 0), batch_size=5) == pytest.approx(whole, rel=1e-9)


def process_with_its_part(rank: int, world_size: int, folder: str) -> None:
    """One of several processes: takes in every ``world_size``-th image and writes what it computes."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world_size)
    real, fake = gaussian(61, 6, seed=0), gaussian(48, 6, seed=1, mean=0.2)
    found = values(everything(), real[rank::world_size], fake[rank::world_size], batch_size=7)
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_values_do_not_depend_on_the_number_of_processes(world_size, tmp_path):
    """Also with parts of unequal sizes: 61 images on 2 or 3 processes, none of them counted twice."""
    torch.multiprocessing.spawn(process_with_its_part, (world_size, str(tmp_path)), nprocs=world_size)
    alone = values(everything(), gaussian(61, 6, seed=0), gaussian(48, 6, seed=1, mean=0.2))
    for rank in range(world_size):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == pytest.approx(alone, rel=1e-9)


def test_the_gaussian_kernel_is_the_definition():
    """exp(-d^2 / (2 m)) with the median m of the squared distances of real images, times 1000."""
    random = np.random.default_rng(0)
    real, fake = random.normal(size=(30, 3)), 2 + 3 * random.normal(size=(20, 3))

    def squares(x, y):
        return np.square(x[:, None] - y[None]).sum(-1)

    median = np.median(squares(real, real)[np.triu_indices(30, 1)])
    within = [np.exp(-squares(x, x) / (2 * median)) for x in (real, fake)]
    own = [(values.sum() - len(values)) / (len(values) * (len(values) - 1)) for values in within]
    expected = 1000 * (sum(own) - 2 * np.exp(-squares(real, fake) / (2 * median)).mean())
    assert gaussian_kernel(real, fake).value == pytest.approx(expected, rel=1e-9)


def test_balls_of_neighbors_are_open():
    """Images on whole numbers, 1 apart: a fake at the distance of the nearest neighbor is outside."""
    real, fake = np.arange(0.0, 8.0)[:, None], np.array([[-1.0], [8.0], [8.5], [9.5]])
    values = precision_recall_density_coverage(real, fake, k=1)
    assert (values["precision"].value, values["coverage"].value) == (0, 0)
    inside = precision_recall_density_coverage(real, fake[:2] * 0.999, k=1)
    assert inside["precision"].value == 1


@pytest.mark.parametrize("damaged", ["x", None, [1], {"mini": "x"}])
def test_measures_of_a_damaged_configuration_are_refused_in_a_sentence(damaged):
    config = {"_target_": "medsynth.metrics.collection.MetricCollection", "parts": damaged}
    with pytest.raises(InputError):
        logged_measures(config)


def test_classifier_takes_features_from_another_device():
    """The doctor keeps features on the CPU; the device without numbers stands for a GPU."""
    metrics = GenerativeMetrics(extractor=Pixels(4), inception_score=False).to("meta")
    assert metrics.classify is not None
    assert metrics.classify(torch.zeros(3, 4)).device.type == "meta"
