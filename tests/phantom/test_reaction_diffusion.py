"""The reaction-diffusion equation against what is known about it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_seg.phantom.growth import Rates, Reactor, arrival_days, logistic


def front_positions(diffusion: float, rho: float, *, cells: int = 640) -> tuple[np.ndarray, np.ndarray]:
    """``rho t`` and the place of density 1/2 of a front that starts as a step, finely sampled."""
    spacing = 0.25 * np.sqrt(diffusion / rho)
    reactor = Reactor(np.full(cells, diffusion), (spacing,), rho)
    days = 0.5 * reactor.stable_days
    density = np.zeros(cells)
    density[:10] = 1
    times, places = [], []
    now = 0.0
    while now * rho < 60:
        density = reactor.step(density, days)
        now += days
        last = int(np.flatnonzero(density >= 0.5)[-1])
        beyond = (density[last] - 0.5) / (density[last] - density[last + 1])
        times.append(now * rho)
        places.append((last + beyond) * spacing)
    return np.array(times), np.array(places)


@pytest.mark.parametrize(("diffusion", "rho"), [(0.1, 0.012), (0.5, 0.05)])
def test_a_planar_front_has_the_speed_of_the_theory(diffusion: float, rho: float) -> None:
    times, places = front_positions(diffusion, rho)
    for start in (30, 40, 50):
        chosen = (times >= start) & (times <= start + 10)
        speed = np.polyfit(times[chosen] / rho, places[chosen], 1)[0]
        middle = times[chosen].mean()
        assert speed == pytest.approx(2 * np.sqrt(diffusion * rho) * (1 - 3 / (4 * middle)), rel=0.03)
    whole = (times >= 30) & (times <= 60)
    mean_speed = (places[whole][-1] - places[whole][0]) / (times[whole][-1] - times[whole][0]) * rho
    asymptotic = 2 * np.sqrt(diffusion * rho)
    assert mean_speed == pytest.approx(asymptotic * (1 - 0.75 * np.log(60 / 30) / 30), rel=0.03)
    assert mean_speed < asymptotic


def brain_like(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """White and grey fractions with a hole and a rim without tissue."""
    white = rng.uniform(0, 1, (18, 16, 14)).astype(np.float32)
    grey = (1 - white) * rng.uniform(0.5, 1, white.shape).astype(np.float32)
    for fraction in (white, grey):
        fraction[:2] = fraction[-2:] = 0
        fraction[7:10, 6:9, 5:8] = 0
    return white, grey


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 1.0), st.floats(0.005, 0.2))
def test_cells_stay_in_tissue_and_within_what_it_carries(seed: int, diffusion: float, rho: float) -> None:
    rng = np.random.default_rng(seed)
    white, grey = brain_like(rng)
    field = Rates(diffusion, diffusion / 5, rho).diffusion(white, grey)
    reactor = Reactor(field, (2.0, 2.0, 2.0), rho)
    density = np.where((field > 0) & (rng.uniform(size=field.shape) < 0.05), 0.9, 0)
    started = density.sum() > 0
    for _ in range(30):
        density = reactor.step(density, reactor.stable_days)
    assert density.min() >= 0 and density.max() <= 1 + 1e-12
    assert (density[field == 0] == 0).all()
    assert not started or density.sum() > 0


def test_diffusion_alone_keeps_the_mass() -> None:
    white, grey = brain_like(np.random.default_rng(1))
    field = Rates(0.3, 0.06, 1e-12).diffusion(white, grey)
    reactor = Reactor(field, (1.0, 1.5, 2.0), 1e-12)
    density = np.where(field > 0, 0.2, 0.0)
    density[3, 3, 3] = 1.0
    before = density.sum()
    for _ in range(100):
        density = reactor.step(density, reactor.stable_days)
    assert density.sum() == pytest.approx(before, rel=1e-9)
    assert density.max() < 0.5


def test_few_cells_multiply_exponentially() -> None:
    rho, days = 0.02, 150.0
    reactor = Reactor(np.full((40, 40, 40), 0.2), (2.0, 2.0, 2.0), rho)
    density = np.zeros((40, 40, 40))
    density[20, 20, 20] = 1e-6
    before, steps = density.sum(), 100
    for _ in range(steps):
        density = reactor.step(density, days / steps)
    assert density.sum() / before == pytest.approx(np.exp(rho * days), rel=1e-4)


@given(st.floats(0, 1), st.floats(0, 5))
def test_the_reaction_is_the_logistic_curve(density: float, growth: float) -> None:
    after = logistic(density, np.exp(growth))
    assert 0 <= after <= 1 + 1e-12
    assert after >= density - 1e-12
    assert logistic(logistic(density, np.exp(growth / 2)), np.exp(growth / 2)) == pytest.approx(after, abs=1e-12)


def test_fronts_run_along_white_matter() -> None:
    white = np.zeros((41, 41, 9), np.float32)
    white[:, 18:23] = 1
    rates = Rates(0.5, 0.05, 0.02)
    reactor = Reactor(rates.diffusion(white, 1 - white), (2.0,) * 3, rates.per_day)
    seed = np.zeros(white.shape, np.float32)
    seed[20, 20, 4] = 0.9
    low, high = arrival_days(reactor, seed, (2.0,) * 3, thresholds=(0.16, 0.8), until=(1500, 500))
    assert low[34, 20, 4] < low[20, 34, 4]
    came = np.argsort(high, axis=None)[1:500]  # all but the seed
    assert (low.ravel()[came] <= high.ravel()[came] + 1e-3).all()  # a low density comes before a high one


def test_arrival_rises_outwards_and_stops_at_what_is_no_tissue() -> None:
    white = np.ones((30, 30, 30), np.float32)
    white[15:] = 0
    rates = Rates(0.2, 0.2, 0.03)
    reactor = Reactor(rates.diffusion(white, 0 * white), (2.0,) * 3, rates.per_day)
    seed = np.zeros(white.shape, np.float32)
    seed[8, 15, 15] = 0.9
    (days,) = arrival_days(reactor, seed, (2.0,) * 3, thresholds=(0.5,), until=(3000,))
    assert np.isfinite(days).all()
    assert (np.diff(days[8, 15, 15:]) > 0).all()
    assert (np.diff(days[8:25, 15, 15]) > 0).all()
    beyond = np.diff(days[14:25, 15, 15])  # where the front did not come, time is what the way would take
    np.testing.assert_allclose(beyond, beyond[0], rtol=1e-3)
    assert beyond[0] > 1.5 * (days[14, 15, 15] - days[13, 15, 15])


def test_steps_that_would_be_unstable_are_refused() -> None:
    reactor = Reactor(np.full((5, 5), 0.5), (1.0, 1.0), 0.01)
    assert reactor.stable_days == pytest.approx(1 / (4 * 0.5))  # h^2 / (2 d D)
    with pytest.raises(ValueError, match="unstable"):
        reactor.step(np.zeros((5, 5)), reactor.stable_days * 1.01)
    with pytest.raises(ValueError, match="nothing diffuses"):
        Reactor(np.zeros((5, 5)), (1.0, 1.0), 0.01)
    with pytest.raises(ValueError, match="spacings"):
        Reactor(np.ones((5, 5)), (1.0,), 0.01)
    with pytest.raises(ValueError, match="positive"):
        Rates(0.1, 0.0, 0.01)
