"""The published figures hold: shapes and parameter counts of networks, layer by layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnformance.reference import model_shapes, output_shape, parameter_count
from cnnformance.spec.layers import Conv, Dense, Flatten
from cnnformance.spec.networks import Network, load
from cnnformance.spec.reading import DataError

NETWORKS = load()
BATCH = 2

each_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())


@each_network
def test_each_layer_has_the_published_parameters(network: Network) -> None:
    counts = [parameter_count(step.layer) for step in network.steps]
    assert counts == [step.parameters for step in network.steps]


@each_network
def test_the_network_has_the_published_parameters(network: Network) -> None:
    assert parameter_count(network.layers) == network.parameters


@each_network
def test_each_named_layer_has_the_published_shape(network: Network) -> None:
    shape = (BATCH, *network.input)
    for step in network.steps:
        shape = output_shape(step.layer, shape)
        if step.shape is not None:
            assert shape == (BATCH, *step.shape), step.name
    assert network.steps[-1].shape is not None


@each_network
def test_the_shapes_of_the_model_are_those_of_its_layers(network: Network) -> None:
    shapes = model_shapes(network.layers, (BATCH, *network.input))
    assert shapes[-1] == (BATCH, *(network.steps[-1].shape or ()))


def test_the_last_convolution_of_lenet5_is_a_dense_layer() -> None:
    (dense,) = (step.layer for step in NETWORKS["lenet5"].steps if step.name == "C5")
    (conv,) = (step.layer for step in NETWORKS["lenet5-conv"].steps if step.name == "C5")
    assert isinstance(dense, Dense)
    assert isinstance(conv, Conv)
    assert parameter_count(dense) == parameter_count(conv) == 48120


@each_network
def test_dense_layers_hold_most_parameters_of_classic_networks_only(network: Network) -> None:
    dense = [step for step in network.steps if isinstance(step.layer, Dense)]
    mostly = sum(step.parameters for step in dense) > network.parameters / 2
    flattened = any(isinstance(layer, Flatten) for layer in network.layers)
    assert mostly == (flattened and network.name != "lenet5-conv")


def test_all_ranks_are_there() -> None:
    assert {len(network.input) - 1 for network in NETWORKS.values()} == {1, 2, 3}


GOOD = """
[net]
source = "a paper"
input = [4, 4, 1]
parameters = 10
layers = [
  { name = "conv", type = "Conv", window = [3, 3], shape = [2, 2, 1], parameters = 10 },
  { type = "ReLU" },
]
"""


def test_a_good_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "networks.toml"
    path.write_text(GOOD, "utf-8")
    (network,) = load(path).values()
    assert network.layers[0] == Conv((3, 3))
    assert [step.name for step in network.steps] == ["conv", ""]
    assert [step.shape for step in network.steps] == [(2, 2, 1), None]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("input", "inputs", "net.input: is missing"),
        ("source", "author = 'x'\nsource", "net.author: is unknown"),
        ('"a paper"', "3", "net.source: needs a text, not 3"),
        ("parameters = 10\n", "parameters = -1\n", "net.parameters: needs 1 or more, not -1"),
        ("[4, 4, 1]", "[4, 4.5, 1]", r"net.input\[1\]: needs an integer, not 4.5"),
        ("[4, 4, 1]", "4", "net.input: needs a list"),
        ("[4, 4, 1]", f"[4, {10**3999}, 1]", r"net.input\[1\]: is an integer beyond"),
        ("[4, 4, 1]", "[" * 99 + "]" * 99, "net.input: is nested deeper than 16 levels"),
        ('"ReLU"', '"ReLu"', r"net.layers\[1\]: layer type 'ReLu' is unknown"),
        ("window =", "kernel =", r"net.layers\[0\]: Conv has no field kernel"),
        ("[3, 3]", "[3, 0]", r"net.layers\[0\]: Conv.window"),
        (", parameters = 10", "", r"net.layers\[0\].parameters: is missing"),
        ('"ReLU"', '"ReLU", parameters = 0', r"net.layers\[1\].parameters: has no place"),
        (", shape = [2, 2, 1]", "", r"net.layers\[0\].shape: is missing"),
        ('name = "conv", ', "", r"net.layers\[0\].*: (is missing|has no place)"),
        ("[net]", "net = 3\n[more]", "net: needs a table"),
        ("[net]", "[net", "networks.toml"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, old: str, new: str, reason: str) -> None:
    path = tmp_path / "networks.toml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1), "utf-8")
    with pytest.raises(DataError, match=reason) as caught:
        load(path)
    assert "networks.toml" in str(caught.value)
