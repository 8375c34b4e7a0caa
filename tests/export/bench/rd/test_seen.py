"""Which measures training saw, as a bundle's manifest tells."""

from edgesem.bundle.bundle import Bundle
from export.bench.rd.seen import trained_on

CODEC = {"ms_ssim": 0.85, "ssimulacra2": 0.0}
FLOW = {"lpips_weight": 1.0, "mse_weight": 10.0}


def test_what_any_run_of_any_part_was_trained_on_is_seen():
    training = {"history": [CODEC, {**CODEC, "ssimulacra2": 0.3}], "flow": {"history": [FLOW]}, "steps": 9}
    assert trained_on({"training": training}) == ["lpips", "ms_ssim", "psnr", "ssimulacra2"]
    assert trained_on({"training": {"history": [CODEC]}}) == ["ms_ssim", "psnr"]
    plain = {"training": {"history": [{"ms_ssim": 0.0}]}}
    assert trained_on(plain) == ["psnr"]
    assert trained_on({**plain, "int8": {"decoder": {"history": [CODEC]}}}) == ["ms_ssim", "psnr"]
    assert trained_on({**plain, "decoder.large": {"history": [CODEC]}}) == ["ms_ssim", "psnr"]


def test_training_that_looks_through_vgg_has_seen_every_measure_by_it():
    flow = {**FLOW, "vgg_weight": 0.5}
    seen = trained_on({"training": {"history": [CODEC], "flow": {"history": [flow]}}})
    assert {"dists", "dists_like", "lpips_vgg"} <= set(seen)
    without = {**flow, "vgg": None}  # the weight of a loss whose network was not given
    assert trained_on({"training": {"history": [CODEC], "flow": {"history": [without]}}}) == [
        "lpips",
        "ms_ssim",
        "psnr",
    ]


def test_a_bundle_that_does_not_say_is_not_taken_for_untrained():
    assert trained_on({}) is None
    assert trained_on({"training": {"commands": ["somewhere else"]}}) is None


def test_the_bundle_that_ships_says_what_it_was_trained_on():
    assert {"psnr", "ms_ssim"} <= set(trained_on(Bundle.open().manifest))
