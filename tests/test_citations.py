"""`cite` names the papers of what is used, and no others."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from spikingjelly.activation_based import layer, neuron
from torch import nn

import sj_ext
from sj_ext import cite
from sj_ext.attack import FGSM, PGD, RandomSearch, SparsePGD, robust_accuracy
from sj_ext.cka import CKA, linear_cka
from sj_ext.fisher import TemporalFisher
from sj_ext.neuron import mask_neurons
from sj_ext.pruning import FisherPruningScheduler, KLTimeRule
from sj_ext.readout import (
    CrossEntropyLoss,
    RateReadout,
    TemporalConcentrationLoss,
    TemporalEfficientTrainingLoss,
    TemporallyWeightedOutput,
    temporal_efficient_training_loss,
)
from sj_ext.surrogate import (
    BernoulliMask,
    MaskedSurrogate,
    WindowMask,
    dense,
    gradient_density,
)

ALWAYS = {"10.1126/sciadv.adi1480"}
MASKED, FISHER, CKA_PAPERS = "2406.19645", "2211.14406", {"1905.00414", "2304.13098"}

FOOLBOX, REWINDING = "1707.04131", "1912.05671"


def network():
    return nn.Sequential(layer.Linear(4, 3, step_mode="m"), neuron.LIFNode())


def cited(*used):
    """arXiv numbers and DOIs."""
    text = cite(*used, show=False)
    return set(re.findall(r"(?:eprint|doi) = \{(.*)\}", text)) - ALWAYS


def test_spikingjelly_and_this_package_are_cited_in_any_case():
    text = cite(network(), show=False)
    assert "doi = {10.1126/sciadv.adi1480}" in text
    assert f"version = {{{sj_ext.__version__}}}" in text
    assert text.count("@") == 2


def test_it_prints_what_it_returns(capsys):
    text = cite(network())
    assert capsys.readouterr().out == text
    assert cite(network(), show=False) == text
    assert capsys.readouterr().out == ""


def test_a_network_is_cited_by_what_its_neurons_hold():
    net = network()
    assert cited(net) == set()
    mask_neurons(net, {"name": "bernoulli", "p": 0.5})
    assert cited(net) == {MASKED}


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        (MaskedSurrogate("ATan", BernoulliMask(0.5)), {MASKED}),
        (TemporallyWeightedOutput(T=4), {MASKED}),
        (TemporallyWeightedOutput, {MASKED}),
        (RateReadout(T=4), set()),
        (CrossEntropyLoss(), set()),
        (TemporalEfficientTrainingLoss(), {"2202.11946"}),
        (temporal_efficient_training_loss, {"2202.11946"}),
        (TemporalConcentrationLoss(), {FISHER}),
        (TemporalFisher(network()), {FISHER}),
        (TemporalFisher, {FISHER}),
        (KLTimeRule, {"2207.01382"}),
        (CKA, CKA_PAPERS),
        (linear_cka, {"1905.00414"}),
        (FGSM(), {"1412.6572", FOOLBOX}),
        (PGD(), {"1706.06083", FOOLBOX}),
        (robust_accuracy, {FOOLBOX}),
        (dense, set()),
        (gradient_density, set()),
        (SparsePGD, {"1909.05040"}),
        (RandomSearch, {"1912.00049"}),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_components_are_cited_by_their_papers(used, expected):
    assert cited(used) == expected


@pytest.mark.parametrize("name", sj_ext.surrogate.__all__)
def test_all_that_is_public_can_be_cited(name):
    assert MASKED in cited(getattr(sj_ext.surrogate, name), MaskedSurrogate)


def test_a_window_has_a_paper_of_its_own():
    text = cite(MaskedSurrogate("ATan", WindowMask(0.2)), show=False)
    assert "Sparse Spiking Gradient Descent" in text
    assert MASKED in text


def test_a_pruning_scheduler_is_cited_with_its_rule_and_score():
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    options = {"rounds": 2, "T": 4, "prune_readout": True}
    found = FisherPruningScheduler(net, optimizer, **options)
    assert cited(found) == {FISHER, REWINDING, "1801.05787"}
    found.finalize()
    found = FisherPruningScheduler(
        net, optimizer, scores="magnitude", early_time="kl", **options
    )
    assert cited(found) == {FISHER, REWINDING, "2207.01382"}


def test_several_things_are_cited_once_each():
    text = cite(MaskedSurrogate("ATan", BernoulliMask(0.5)), CKA, CKA, show=False)
    keys = re.findall(r"@\w+\{(.*),", text)
    assert keys == sorted(set(keys))
    assert len(keys) == 5


def test_every_entry_is_balanced_and_dated():
    from sj_ext.citations import _BY_CLASS, _BY_FUNCTION, _ENTRIES

    used = {key for t in (_BY_CLASS, _BY_FUNCTION) for ks in t.values() for key in ks}
    assert used | {"sj_ext", "fang2023spikingjelly"} == set(_ENTRIES)
    for key, entry in _ENTRIES.items():
        assert re.match(rf"@\w+\{{{key},\n", entry)
        assert entry.count("{") == entry.count("}")
        assert re.search(r"year = \{\d{4}\}", entry)
        assert "title = {" in entry


@pytest.mark.parametrize("used", ["a network", 3, re.sub, pytest.raises, None])
def test_what_is_no_component_is_refused(used):
    with pytest.raises(TypeError, match="networks and components"):
        cite(used, show=False)


def test_the_citation_file_has_the_same_papers():
    path = Path(__file__).parent.parent / "CITATION.cff"
    content = yaml.safe_load(path.read_text())
    assert content["preferred-citation"]["title"] == content["title"]
    assert content["version"] == sj_ext.__version__
    references = content["references"]
    found = {
        one["value"].removeprefix("arXiv:")
        for reference in references
        for one in reference.get("identifiers", ())
    }
    assert found == {MASKED, FISHER, "2304.13098"}
    text = cite(
        MaskedSurrogate("ATan", BernoulliMask(0.5)), TemporalFisher, CKA, show=False
    )
    flat = re.sub(r"\s+", " ", re.sub(r"[{}]", "", text))
    for reference in references:
        assert reference["title"] in flat
        for author in reference["authors"]:
            if author["family-names"].isascii():
                assert author["family-names"] in flat
        pages = "--".join(reference[x] for x in ("start", "end") if x in reference)
        for key, value in {
            "volume": reference.get("volume"),
            "number": reference.get("issue"),
            "pages": pages,
        }.items():
            assert not value or f"{key} = {{{value}}}" in text
    assert {r["doi"] for r in references if "doi" in r} == ALWAYS
