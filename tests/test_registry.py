"""Components are found by name, and mistakes are explained."""

import importlib

import pytest

import sj_ext
from sj_ext import registry
from sj_ext.registry import UnknownNameError


@pytest.fixture
def scratch_registry(monkeypatch):
    monkeypatch.setattr(registry, "_components", {})


@pytest.mark.usefixtures("scratch_registry")
class TestRegistry:
    def test_a_registered_component_is_created_by_name(self):
        sj_ext.register("mask", "pair")(lambda **kwargs: kwargs)
        assert sj_ext.create("mask", "pair", p=0.5) == {"p": 0.5}
        assert sj_ext.available("mask") == ["pair"]
        assert sj_ext.available() == ["mask"]

    def test_a_second_component_of_the_same_name_is_refused(self):
        sj_ext.register("mask", "twice")(dict)
        with pytest.raises(ValueError, match=r"'twice', which is builtins\.dict"):
            sj_ext.register("mask", "twice")(list)
        assert sj_ext.create("mask", "twice") == {}

    def test_registering_the_same_component_again_changes_nothing(self):
        sj_ext.register("mask", "same")(dict)
        assert sj_ext.register("mask", "same")(dict) is dict

    def test_an_unknown_name_lists_what_exists_and_names_the_nearest(self):
        sj_ext.register("mask", "bernoulli")(dict)
        sj_ext.register("mask", "window")(list)
        with pytest.raises(UnknownNameError) as error:
            sj_ext.create("mask", "bernouli")
        assert str(error.value) == (
            "Expected the name of a mask, got 'bernouli'. Did you mean 'bernoulli'? "
            "Available: bernoulli, window."
        )

    def test_an_unknown_kind_lists_the_kinds(self):
        sj_ext.register("mask", "bernoulli")(dict)
        with pytest.raises(UnknownNameError, match=r"got 'masks'.*Available: mask\."):
            sj_ext.available("masks")

    @pytest.mark.parametrize("name", ["", None, 3])
    def test_a_name_must_be_a_text(self, name):
        with pytest.raises(TypeError, match="Expected `name` to be a text"):
            sj_ext.register("mask", name)


def test_each_class_of_ours_is_found_where_it_says_it_lives():
    """Saved configurations name a class by module and name."""
    ours = [
        component
        for kind in sj_ext.available()
        for component in registry._components[kind].values()
        if component.__module__.startswith("sj_ext")
    ]
    assert ours
    for component in ours:
        home = importlib.import_module(component.__module__)
        assert getattr(home, component.__name__) is component
        assert component.__module__.count(".") == 1, "a private file is no home"
