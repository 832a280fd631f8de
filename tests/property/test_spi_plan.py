"""Every label and every ESP SPI of a plan names exactly one backend, and nothing else does."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from popctl.model.balancer import SpiPlan
from popctl.wire.spi import Identity, esp_slice, identify, identify_esp, label, labels
from popctl.wire.spi_lint import lint


@st.composite
def plans(draw: st.DrawFn) -> SpiPlan:
    """Draw plans that pass their own lint."""
    pop_bits, backend_bits = draw(st.integers(1, 11)), draw(st.integers(1, 7))
    sa_bits = draw(st.integers(8, 32 - pop_bits - backend_bits))
    room = (1 << 32) - (1 << (pop_bits + backend_bits + sa_bits))
    plan = SpiPlan(
        site=draw(st.text(max_size=10)),
        pop_bits=pop_bits,
        backend_bits=backend_bits,
        sa_bits=sa_bits,
        generation=draw(st.integers(0, 6)),
        esp_base=draw(st.integers(0, room >> sa_bits)) << sa_bits,
    )
    assume(not lint(plan, pops=1, backends_per_pop=1, sas_per_backend=1))
    return plan


@st.composite
def identities(draw: st.DrawFn, plan: SpiPlan) -> Identity:
    """Draw an identity of a plan."""
    pop = draw(st.integers(1, (1 << plan.pop_bits) - 1))
    return Identity(pop, draw(st.integers(0, (1 << plan.backend_bits) - 1)))


@given(st.data())
def test_every_label_maps_to_exactly_one_backend(data: st.DataObject) -> None:
    plan = data.draw(plans())
    one, other = data.draw(identities(plan)), data.draw(identities(plan))
    assert (label(plan, one) == label(plan, other)) == (one == other)
    tail = data.draw(st.binary(min_size=4, max_size=4))
    assert identify(plan, label(plan, one).to_bytes(4, "big") + tail) == one


@given(st.data())
def test_every_esp_spi_of_a_slice_maps_to_exactly_one_backend(data: st.DataObject) -> None:
    plan = data.draw(plans())
    one, other = data.draw(identities(plan)), data.draw(identities(plan))
    mine, theirs = esp_slice(plan, one), esp_slice(plan, other)
    assert one == other or mine.last < theirs.first or theirs.last < mine.first
    assert identify_esp(plan, data.draw(st.integers(*mine))) == one


@given(st.data())
def test_the_balancers_maps_and_the_labels_say_the_same(data: st.DataObject) -> None:
    plan = data.draw(plans())
    one = data.draw(identities(plan))
    found = labels(plan, one.pop, [one.backend])
    assert found.ike == {label(plan, one): one.backend}
    assert list(found.esp.values()) == [one.backend]
    assert label(plan, one) & found.prefixes[0].mask == found.prefixes[0].value


@given(plans(), st.binary(min_size=8, max_size=8))
def test_a_random_spi_is_labelled_only_by_its_generation_and_check_bits(plan: SpiPlan, spi: bytes) -> None:
    ((value, mask),) = labels(plan, 1, [0]).prefixes
    same = int.from_bytes(spi[:4], "big") & mask == value
    assert (identify(plan, spi) is not None) == same
