"""The attack against a linear model, where the best change is known."""

import pytest
import torch
from nets import images, linear_net, small_cnn

from xai_lib.evaluate import sign_gradient_attack


def test_on_two_linear_logits_the_attack_finds_the_best_corner():
    net = linear_net()
    net[1].weight.data[2:] = 0
    net[1].weight.data[2:, 0] -= 1e-9
    x, c = 0.01 * images(), torch.tensor([0, 1])
    changed = sign_gradient_attack(net, x, c, size=0.5)
    assert (changed - x).abs().max() <= 0.5 + 1e-6
    assert (net(changed).argmax(1) != c).all()


def test_with_two_classes_every_pixel_ends_at_the_limit():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2)).eval()
    x, c = images(2, 3, 4, 4), torch.tensor([0, 1])
    changed = sign_gradient_attack(net, x, c, size=0.3)
    difference = net[1].weight[1] - net[1].weight[0]
    best = torch.stack([difference, -difference]).sign().view_as(x)
    torch.testing.assert_close(changed, x + 0.3 * best)


def test_the_size_may_differ_by_channel_and_the_loss_never_falls():
    net, x, c = small_cnn(), images(), torch.tensor([1, 3])
    size = torch.tensor([0.1, 0.2, 0.4]).view(1, 3, 1, 1)
    changed = sign_gradient_attack(net, x, c, size, steps=20)
    largest = (changed - x).abs().amax((0, 2, 3))
    torch.testing.assert_close(largest, size.flatten())
    loss = torch.nn.functional.cross_entropy
    assert loss(net(changed), c) > loss(net(x), c) + 0.01
    assert not changed.requires_grad


@pytest.mark.parametrize("bad", [{"size": 0.0}, {"size": 0.1, "steps": 0}])
def test_bad_sizes_are_refused(bad):
    with pytest.raises(ValueError, match="above 0"):
        sign_gradient_attack(linear_net(), images(), torch.tensor([0, 1]), **bad)


@pytest.mark.parametrize("gap", [5, 25, 110])
def test_a_sure_network_is_attacked_in_the_same_direction(gap):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2)).eval()
    net[1].bias.data = torch.tensor([float(gap), 0.0])
    x, c = images(1, 3, 4, 4), torch.tensor([0])
    uphill = (net[1].weight[1] - net[1].weight[0]).sign().view_as(x)
    changed = sign_gradient_attack(net, x, c, size=0.3)
    torch.testing.assert_close(changed, x + 0.3 * uphill)


def test_a_batch_is_attacked_as_its_images_with_a_size_for_each():
    net, x, c = small_cnn(), images(10), torch.arange(10) % 5
    size = torch.linspace(0.1, 0.5, 10).view(-1, 1, 1, 1)
    changed = sign_gradient_attack(net, x, c, size, steps=2)
    torch.testing.assert_close((changed - x).abs().amax((1, 2, 3)), size.flatten())
    alone = [sign_gradient_attack(net, x[[i]], c[[i]], size[i], 2) for i in range(10)]
    torch.testing.assert_close(changed, torch.cat(alone))


def test_attacks_that_make_no_sense_are_refused():
    x, c = images(), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="size must broadcast to x"):
        sign_gradient_attack(linear_net(), x, c, torch.ones(3))
    one = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 1)).eval()
    with pytest.raises(ValueError, match="at least 2 classes"):
        sign_gradient_attack(one, x, torch.tensor([0, 0]), 0.1)
    with pytest.raises(ValueError, match="target must lie in"):
        sign_gradient_attack(linear_net(), x, torch.tensor([-100, 0]), 0.1)
