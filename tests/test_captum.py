"""Against captum, where it is right."""

import pytest
import torch
from nets import images, small_cnn

from xai_lib.attribute import (
    grad_cam,
    gradient,
    gradient_x_input,
    guided_backprop,
    integrated_gradients,
    occlusion,
)

captum = pytest.importorskip("captum.attr")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:captum")  # its own words
LABELS = torch.tensor([1, 3])


@pytest.fixture
def net():
    return small_cnn().double(), images(dtype=torch.float64)


def same(ours, theirs, tolerance=1e-10):
    gap = (ours - theirs).abs().max() / theirs.abs().max()
    assert gap < tolerance, f"relative difference {gap:.1e}"


def test_gradients(net):
    model, x = net
    theirs = captum.Saliency(model).attribute(x, LABELS, abs=False)
    same(gradient(model, x, LABELS), theirs)
    theirs = captum.InputXGradient(model).attribute(x, LABELS)
    same(gradient_x_input(model, x, LABELS), theirs)


def test_integrated_gradients(net):
    model, x = net
    theirs = captum.IntegratedGradients(model).attribute(x, target=LABELS, n_steps=20)
    same(integrated_gradients(model, x, LABELS, steps=20), theirs, 1e-6)  # its floats


def test_guided_backprop(net):
    model, x = net
    theirs = captum.GuidedBackprop(model).attribute(x, LABELS)
    same(guided_backprop(model, x, LABELS), theirs)


def test_grad_cam(net):
    model, x = net
    theirs = captum.LayerGradCam(model, model[5]).attribute(
        x, LABELS, relu_attributions=True
    )
    same(grad_cam(model, x, LABELS, layer="5"), theirs)


def test_occlusion(net):
    model, x = net
    own = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 2, 2)}
    theirs = captum.Occlusion(model).attribute(x, target=LABELS, **own)
    ours = occlusion(model, x, LABELS, window=4, stride=2)
    # captum averages over the windows that cover a pixel; ours adds fall / area
    windows = x.new_ones(1, 1, 7, 7)
    cover = torch.nn.functional.conv_transpose2d(
        windows, windows.new_ones(1, 1, 4, 4), stride=2
    )
    same(ours * 16 / cover, theirs[:, :1], 1e-6)  # captum computes it in float32
