"""`attackable`: a function of samples with dense gradients, and a network untouched."""

import copy

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate

from sj_ext.attack import attackable, perturb, robust_accuracy
from sj_ext.readout import TemporallyWeightedOutput
from sj_ext.surrogate import BernoulliMask, MaskedSurrogate, dense
from tests.attack.networks import answers, counts, images, masked_network, network


def input_gradient(model, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(model(x).square().sum(), x)[0]


def test_gradient_equals_that_of_a_loop_through_the_dense_network():
    net, plain, x = masked_network(), network(), images()
    ours = input_gradient(attackable(net, T=4, mean=(0.1, 0.2), std=(0.5, 2.0)), x)
    x = x.clone().requires_grad_()
    shift, scale = (torch.tensor(v).reshape(2, 1, 1) for v in ((0.1, 0.2), (0.5, 2.0)))
    normalised = (x - shift) / scale
    functional.set_step_mode(plain, "s")
    logits = torch.zeros(5, 3)
    with dense(plain):
        for _ in range(4):
            logits = logits + plain(normalised) / 4
    (theirs,) = torch.autograd.grad(logits.square().sum(), x)
    torch.testing.assert_close(ours, theirs)
    assert ours.abs().sum() > 0


def test_a_network_whose_mask_drops_all_derivatives_has_gradients_all_the_same():
    net = masked_network(p=0.999)
    assert (input_gradient(attackable(net.train(), T=4), images()) != 0).any()
    assert (input_gradient(attackable(net.eval(), T=4), images()) != 0).any()


def test_each_call_starts_from_fresh_states():
    model = attackable(network(), T=4)
    assert torch.equal(model(images()), model(images()))
    with model.ready():
        assert torch.equal(model(images()), model(images()))


def test_frames_are_the_images_that_they_repeat():
    net, x = network(), images()
    frames = x.unsqueeze(1).repeat(1, 4, 1, 1, 1)
    torch.testing.assert_close(attackable(net, T=4)(x), attackable(net)(frames))
    encoded = attackable(net, encoder=lambda x: x.expand(4, *x.shape).contiguous())
    torch.testing.assert_close(encoded(x), attackable(net)(frames))


def test_what_an_encoder_draws_is_the_same_in_every_call():
    model = attackable(network(), encoder=lambda x: (torch.rand(6, *x.shape) < x) * 3.0)
    before = torch.get_rng_state()
    with model.ready():
        assert torch.equal(model(images()), model(images()))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_encoder_that_is_a_module_is_fresh_in_every_call_and_left_as_it_was():
    class Encoder(torch.nn.Sequential):
        def forward(self, x):
            return super().forward(x.expand(4, *x.shape).contiguous())

    torch.manual_seed(0)
    encoder = Encoder(
        layer.Conv2d(2, 2, 3, padding=1),
        layer.BatchNorm2d(2),
        neuron.LIFNode(
            v_threshold=0.3,
            surrogate_function=MaskedSurrogate("ATan", BernoulliMask(0.999)),
        ),
    )
    functional.set_step_mode(encoder, "m")
    encoder(images()).sum().backward()
    functional.detach_net(encoder)
    model = attackable(network(), encoder=encoder)
    before = found(encoder)
    x = images().requires_grad_()
    first = model(x)
    first.sum().backward()
    assert x.grad.abs().sum() > 0
    assert torch.equal(first, model(x))
    assert torch.equal(model.frames(x), model.frames(x))
    assert_same(before, found(encoder))


def test_any_readout_makes_the_logits():
    net, x = network().eval(), counts()
    with torch.no_grad():
        logits = net(x.transpose(0, 1))
    functional.reset_net(net)
    weighted = TemporallyWeightedOutput(T=4)
    weighted.weight.copy_(torch.tensor([0.0, 1.0, 1.0, 2.0]))
    torch.testing.assert_close(attackable(net)(x), logits.mean(0))
    torch.testing.assert_close(attackable(net, "last")(x), logits[-1])
    torch.testing.assert_close(attackable(net, "max")(x), logits.amax(0))
    torch.testing.assert_close(attackable(net, weighted)(x), weighted(logits))


def test_networks_with_other_axes_are_adapted():
    class Wrapped(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x.transpose(0, 1)).transpose(0, 1), "state"

    net, x = network(), counts()
    expected = attackable(net)(x)
    swapped = attackable(Wrapped(net), batch_first=True, output=lambda found: found[0])
    torch.testing.assert_close(swapped(x), expected)
    with pytest.raises(TypeError, match="got tuple: give `output`"):
        attackable(Wrapped(net), batch_first=True)(x)
    functional.set_step_mode(net, "s")
    torch.testing.assert_close(attackable(net, step_by_step=True)(x), expected)


def test_a_network_that_averages_by_itself_has_no_readout():
    class Mean(torch.nn.Sequential):
        def forward(self, x):
            return super().forward(x).mean(0)

    net = network()
    averaging = Mean(*net)
    expected = attackable(net)(counts())
    torch.testing.assert_close(attackable(averaging, readout=None)(counts()), expected)
    with pytest.raises(ValueError, match=r"Expected logits \[T, N, K\], got \[5, 3\]"):
        attackable(averaging)(counts())


def test_a_probe_changes_gradients_but_no_logits():
    model = attackable(network(), T=4)
    wide = model.with_probe({"name": "ATan", "alpha": 0.5})
    same = model.with_probe(surrogate.ATan(alpha=0.5))
    assert wide.probe_name == "ATan(alpha=0.5)"
    assert model.probe_name == "own"
    assert torch.equal(model(images()), wide(images()))
    assert not torch.equal(
        input_gradient(model, images()), input_gradient(wide, images())
    )
    assert torch.equal(input_gradient(same, images()), input_gradient(wide, images()))
    with pytest.raises(TypeError, match="Expected `probe` to be an unmasked"):
        model.with_probe(masked_network()[2].surrogate_function)


def found(net):
    """All that must not change, as copies."""
    return copy.deepcopy(
        {
            "modes": [module.training for module in net.modules()],
            "state": {name: v.detach() for name, v in net.state_dict().items()},
            "gradients": [p.grad for p in net.parameters()],
            "wanted": [p.requires_grad for p in net.parameters()],
            "v": net[2].v.detach(),
            "surrogate": str(net[2].surrogate_function),
            "random": torch.get_rng_state(),
        }
    )


def assert_same(one, other):
    assert one["modes"] == other["modes"]
    assert one["wanted"] == other["wanted"]
    assert one["surrogate"] == other["surrogate"]
    assert torch.equal(one["v"], other["v"])
    assert torch.equal(one["random"], other["random"])
    for a, b in zip(one["gradients"], other["gradients"], strict=True):
        assert torch.equal(a, b)
    assert all(torch.equal(v, other["state"][k]) for k, v in one["state"].items())


@pytest.mark.parametrize("attack", ["pgd", "fgsm", "random_search"])
def test_an_attack_leaves_the_network_as_it_was(attack):
    net = masked_network()
    net[1].eval()
    net(counts().transpose(0, 1)).sum().backward()
    functional.detach_net(net)
    before = found(net)
    model = attackable(net, bounds=(0, 5), probe="Sigmoid")
    perturb(model, counts(), torch.zeros(5, dtype=torch.int64), attack, budget=0.5)
    model.train()
    model.zero_grad()
    model.eval()
    assert_same(before, found(net))


def test_a_gradient_taken_by_a_library_does_not_reach_parameters():
    net = network()
    x = images().requires_grad_()
    attackable(net, T=4)(x).sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bounds": (1.0, 0.0)}, "Expected `bounds`"),
        ({"T": 0}, "Expected `T` to be a positive integer, got 0"),
        ({"T": 2, "encoder": torch.stack}, "Expected `T` or `encoder`, got both"),
        ({"std": 0.0}, "Expected `std` to be positive"),
        ({"batch_first": True, "step_by_step": True}, "got both"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        attackable(network(), **arguments)


def test_images_without_steps_are_refused():
    with pytest.raises(ValueError, match=r"Expected frames .*, got \[5, 3\]"):
        attackable(neuron.IFNode())(torch.rand(5, 3))


def test_a_readout_that_learns_is_given_itself_and_not_by_its_name():
    with pytest.raises(ValueError, match=r"learned weight.*got its name 'temporally_w"):
        attackable(network(), "temporally_weighted")
    for name in ("rate", "last", "max"):
        assert attackable(network(), name)(counts()).shape == (5, 3)


def test_the_adapter_is_where_the_network_is_and_does_not_move_it():
    """Seen on torch's device without memory, which every machine has."""
    net = network().to("meta")
    model = attackable(net, mean=0.5, std=[0.1, 0.2])
    assert model.mean.device.type == model.std.device.type == "meta"
    other = model.with_probe("Sigmoid")
    assert other.mean.device.type == "meta"
    assert {p.device.type for p in net.parameters()} == {"meta"}


@pytest.mark.gpu
def test_a_network_on_a_gpu_is_attacked_there():
    net = network().to("cuda")
    model = attackable(net, bounds=(0.0, 5.0))
    x = counts().to("cuda")
    target = answers(model, x)
    for attack in ("pgd", "fgsm", "events", "sparse", "random_search"):
        found = robust_accuracy(model, [(x, target)], attack, budgets=[1])
        assert found.clean_accuracy == 1.0
    assert {p.device.type for p in net.parameters()} == {"cuda"}
