"""A masked network goes where the host's networks go: whole training machinery."""

import copy
import json
import subprocess
import sys

import pytest
import torch
from spikingjelly.activation_based import functional, memopt, neuron, surrogate
from spikingjelly.activation_based.model import spikformer

from sj_ext import host
from sj_ext.neuron import (
    MaskedIFNode,
    MaskedIzhikevichNode,
    MaskedLIFNode,
    MaskedNode,
    MaskedParametricLIFNode,
    mask_neurons,
)
from sj_ext.surrogate import BernoulliMask, MaskedSurrogate, WindowMask


def masked(p=0.5):
    return MaskedSurrogate("ATan", BernoulliMask(p))


def network(*nodes):
    net = torch.nn.Sequential(torch.nn.Linear(6, 16))
    for node in nodes:
        net.extend([node, torch.nn.Linear(16, 16)])
    functional.set_step_mode(net, "m")
    return net


def gradients(net, x, seed=5):
    functional.reset_net(net)
    net.zero_grad()
    torch.manual_seed(seed)
    net(x).square().sum().backward()
    return [parameter.grad.clone() for parameter in net.parameters()]


# Host models.


def test_a_masked_spikformer_trains():
    net = spikformer.Spikformer(
        T=2,
        img_size_h=16,
        img_size_w=16,
        patch_size=4,
        num_classes=10,
        embed_dims=32,
        num_heads=2,
        depths=1,
    )
    report = mask_neurons(net, BernoulliMask(0.5))
    nodes = [m for m in net.modules() if isinstance(m, neuron.BaseNode)]
    assert len(report.swapped) == len(nodes)
    logits = net(torch.rand(3, 3, 16, 16))
    assert logits.shape == (2, 3, 10)
    logits.square().sum().backward()
    assert {m.backend_in_use for m in nodes} == {"cpu"}
    assert all(p.grad is not None for p in net.parameters())
    assert any((p.grad != 0).any() for p in net.patch_embed.parameters())


# The host's registry.


@pytest.mark.skipif(
    host.RELEASE == "2.0.0rc1", reason="this release has no registry of neurons"
)
@pytest.mark.parametrize(
    "name", ["MaskedLIFNode", "MaskedIFNode", "MaskedParametricLIFNode"]
)
def test_a_host_configuration_names_masked_neurons(name):
    from spikingjelly.activation_based.distributed.vision import NeuronConfig
    from spikingjelly.activation_based.model.sew_resnet import SEWResNet34Config

    config = SEWResNet34Config(
        time_steps=2,
        num_classes=5,
        image_size=32,
        neuron_config=NeuronConfig(
            class_path=f"sj_ext.neuron.{name}",
            kwargs={"detach_reset": True},
            surrogate="sj_ext.surrogate.MaskedSurrogate",
            surrogate_kwargs=MaskedSurrogate("ATan", BernoulliMask(0.4)).config(),
        ),
    )
    again = SEWResNet34Config.from_dict(json.loads(json.dumps(config.as_dict())))
    assert again == config
    net, twin = build(config), build(again)
    assert repr(net) == repr(twin)
    nodes = [m for m in net.modules() if isinstance(m, neuron.BaseNode)]
    plain = build(SEWResNet34Config(time_steps=2, num_classes=5, image_size=32))
    assert len(nodes) == sum(isinstance(m, neuron.LIFNode) for m in plain.modules())
    assert {f"{type(m).__module__}.{type(m).__name__}" for m in nodes} == {
        f"sj_ext.neuron.{name}"
    }
    rules = [m.surrogate_function.mask for m in nodes]
    assert set(map(repr, rules)) == {repr(BernoulliMask(0.4))}
    assert len({id(rule) for rule in rules}) == len(rules)
    x = torch.rand(2, 2, 3, 32, 32)
    for a, b in zip(gradients(net, x), gradients(twin, x), strict=True):
        assert torch.equal(a, b)
    assert {m.backend_in_use for m in nodes} == {"cpu"}


def build(config):
    torch.manual_seed(0)
    net, *_ = config.get_builder_cls()(config).build(
        process_group=None,
        memopt_process_group=None,
        pipeline_rank=0,
        pipeline_size=1,
        pipeline_microbatches=1,
        device=torch.device("cpu"),
        micro_batch_size=2,
        memopt_level=0,
        memopt_compress_inputs=False,
        memopt_checkpoint_budget="memory",
    )
    return net


@pytest.mark.skipif(
    host.RELEASE == "2.0.0rc1", reason="this release has no registry of neurons"
)
def test_a_host_configuration_is_enough_after_importing_the_package():
    script = """
import sj_ext
from spikingjelly.activation_based.distributed.vision import config
names = set(config._NEURON_REGISTRY) | set(config._SURROGATE_REGISTRY)
print(*sorted(names), sep="\\n")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [
        *(
            f"sj_ext.neuron.Masked{name}Node"
            for name in ("EIF", "IF", "Izhikevich", "LIF", "ParametricLIF", "QIF")
        ),
        "sj_ext.surrogate.MaskedSurrogate",
    ]


@pytest.mark.skipif(host.RELEASE == "2.0.0", reason="this release has a registry")
def test_without_a_registry_nothing_is_entered():
    assert not host.enter_registry((MaskedLIFNode,), (MaskedSurrogate,))


# Memory optimisation.


def memory_network(backend, rule=None):
    torch.manual_seed(0)
    rule = rule or BernoulliMask(0.5)
    return network(
        *(
            make(
                surrogate_function=MaskedSurrogate("ATan", copy.deepcopy(rule)),
                backend=backend,
            )
            for make in (MaskedLIFNode, MaskedParametricLIFNode, MaskedIFNode)
        )
    )


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_the_hosts_memory_optimisation_gives_the_same_gradients(backend, compress):
    x = 2 * torch.randn(5, 4, 6)
    plain = memory_network(backend)
    expected = gradients(plain, x)
    optimised = memopt.optimize_memory(
        memory_network(backend),
        (MaskedNode, torch.nn.Linear),
        lambda net: net(x),
        level=1,
        compress=compress,
    )
    for a, b in zip(gradients(optimised, x), expected, strict=True):
        assert torch.equal(a, b)
    assert any((one != 0).any() for one in expected)


@pytest.mark.parametrize("shared", [(), ("time",)])
@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_checkpointed_neurons_carry_their_state(backend, shared):
    if shared and backend == "cpu":
        pytest.skip("the fused CPU kernel shares no draw")
    x = torch.rand(6, 3, 40) * 2
    node = MaskedLIFNode(
        surrogate_function=MaskedSurrogate("ATan", BernoulliMask(0.5, shared=shared)),
        step_mode="m",
        backend=backend,
    )

    def run(module):
        leaf = x.clone().requires_grad_()
        torch.manual_seed(2)
        spikes = torch.cat([module(leaf[:3]), module(leaf[3:])])
        state = node.v
        functional.reset_net(node)
        return spikes, state, torch.autograd.grad(spikes.sum(), leaf)[0]

    plain = run(node)
    for a, b in zip(run(memopt.checkpoint_module(node)), plain, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_checkpointing_in_chunks_of_time_is_exact_for_a_rule_that_draws_nothing(
    backend,
):
    x = torch.rand(6, 3, 40) * 2
    node = MaskedLIFNode(
        surrogate_function=MaskedSurrogate("ATan", WindowMask(0.3)),
        step_mode="m",
        backend=backend,
    )

    def run(module):
        leaf = x.clone().requires_grad_()
        spikes = module(leaf)
        functional.reset_net(node)
        return spikes, torch.autograd.grad(spikes.sum(), leaf)[0]

    plain = run(node)
    for a, b in zip(run(memopt.checkpoint_module(node, chunks=3)), plain, strict=True):
        torch.testing.assert_close(a, b)


# Data parallel training.

TRAIN_IN_TWO = """
import copy, os, sys, torch, torch.distributed as dist
from spikingjelly.activation_based import functional, layer, neuron
from sj_ext.neuron import mask_neurons
from sj_ext.surrogate import BernoulliMask
torch.set_num_threads(1)
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group(
    "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
)
torch.manual_seed(rank)
net = torch.nn.Sequential(
    layer.Linear(6, 16), neuron.KLIFNode(), layer.Linear(16, 16),
    neuron.LIFNode(), layer.Linear(16, 16), neuron.ParametricLIFNode(),
    layer.Linear(16, 4),
)
functional.set_step_mode(net, "m")
mask_neurons(net, BernoulliMask(0.5))
parallel = torch.nn.parallel.DistributedDataParallel(net)
alone = copy.deepcopy(net)
torch.manual_seed(7)
same = 2 * torch.randn(5, 4, 6)
x = 2 * torch.randn(2, 5, 4, 6)[rank]

def backward(module, held, x):
    held.zero_grad()
    torch.manual_seed(100 + rank)
    module(x).square().sum().backward()
    functional.reset_net(held)
    return [p.grad.clone() for p in held.parameters()]

drawn = backward(alone, alone, same)
own = backward(alone, alone, x)
averaged = backward(parallel, net, x)
torch.optim.SGD(net.parameters(), lr=0.1).step()
weights = [p.detach() for p in net.parameters()]
torch.save((drawn, own, averaged, weights), f"{folder}/{rank}.pt")
dist.barrier()
sys.stdout.flush()
os._exit(0)  # gloo's threads can abort a process that leaves in the usual way
"""


def test_two_processes_average_their_gradients_and_draw_their_own_masks(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TRAIN_IN_TWO, str(rank), str(tmp_path)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    (drawn, own, averaged, weights), (drawn2, own2, averaged2, weights2) = (
        torch.load(tmp_path / f"{rank}.pt") for rank in range(2)
    )
    for mean, again, first, second in zip(averaged, averaged2, own, own2, strict=True):
        assert torch.equal(mean, again)
        torch.testing.assert_close(mean, (first + second) / 2)
    assert all(torch.equal(a, b) for a, b in zip(weights, weights2, strict=True))
    assert (drawn[0] != 0).any()
    assert not torch.equal(drawn[0], drawn2[0]), "the same input, other masks"
    assert torch.equal(drawn[-1], drawn2[-1]), "behind the last neuron no mask acts"


# Compiled graphs.

COMPILED = [
    (MaskedLIFNode, "cpu"),
    (MaskedIFNode, "auto"),
    (MaskedParametricLIFNode, "cpu"),
    (MaskedLIFNode, "torch"),
    (MaskedParametricLIFNode, "torch"),
    (MaskedIzhikevichNode, "torch"),
]


def compiled_pass(net, x, compiler, seed=5):
    torch._dynamo.reset()
    compiled = net
    if compiler is not None:
        compiled = torch.compile(net, fullgraph=True, backend=compiler)
    net.zero_grad(set_to_none=True)
    torch.manual_seed(seed)
    out = compiled(x)
    out.square().sum().backward()
    state = net[1].v.detach()
    functional.reset_net(net)
    # A neuron of 2.0.0rc1 in eval mode passes none.
    gradients = [
        torch.zeros_like(p) if p.grad is None else p.grad for p in net.parameters()
    ]
    return out, state, *gradients


def skip_where_the_host_breaks(net, x, compiler):
    try:
        compiled_pass(net, x, compiler)
    except torch._dynamo.exc.TorchDynamoException as error:
        pytest.skip(f"the host's own neuron breaks the graph: {type(error).__name__}")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
@pytest.mark.parametrize(("make", "backend"), COMPILED)
def test_it_compiles_to_one_graph_where_the_host_does(
    make, backend, compiler, training
):
    x = 2 * torch.randn(4, 3, 6)
    theirs = network(make._host_class(surrogate_function=surrogate.ATan()))
    skip_where_the_host_breaks(theirs.train(training), x, compiler)
    rule = MaskedSurrogate("ATan", WindowMask(0.6))
    net = network(make(surrogate_function=rule, backend=backend)).train(training)
    expected = compiled_pass(net, x, None)
    found = compiled_pass(net, x, compiler)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    assert not training or (found[2] != 0).any()
    assert net[1].backend_in_use == (
        "host" if not training else "cpu" if backend == "auto" else backend
    )


@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_a_compiled_network_draws_its_masks_from_the_seed(backend, compiler):
    x = 2 * torch.randn(4, 3, 6)
    theirs = network(neuron.LIFNode(surrogate_function=surrogate.ATan()))
    skip_where_the_host_breaks(theirs, x, compiler)
    net = network(MaskedLIFNode(surrogate_function=masked(), backend=backend))
    first, again, other = (
        compiled_pass(net, x, compiler, seed)[2] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    if compiler == "eager":
        # Another compiler may draw what only backward needs there, in its order.
        assert torch.equal(first, compiled_pass(net, x, None, 1)[2])


def test_one_compiled_step_is_one_step():
    x = 2 * torch.randn(3, 6)
    net = network(MaskedLIFNode(surrogate_function=masked()))
    functional.set_step_mode(net, "s")
    torch.manual_seed(1)
    expected = net(x)
    functional.reset_net(net)
    torch._dynamo.reset()
    torch.manual_seed(1)
    found = torch.compile(net, fullgraph=True, backend="eager")(x)
    assert torch.equal(found, expected)
