"""Figures of twins: outlines on frames, volume curves, loop, and a moving picture."""

import textwrap
from pathlib import Path
from typing import Any

import corner
import imageio.v3 as iio
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxtwin import plotting
from jaxtwin.analysis.verdict import Verdict
from jaxtwin.imaging.calibration import turned
from jaxtwin.twin import Twin
from jaxtwin.twin.echo import EchoTwin

PICTURES = 40  # at most, of a moving picture
VOLUMES = 100  # number of draws whose volume curves make a band
SLOWED = 2.0  # how much slower than the heart a moving picture is


def draw_loop(ax: Axes, twin: Twin) -> None:
    """Draw a twin's pressure-volume loop between its elastance lines."""
    out, p = twin.solution.outputs, twin.parameters
    lines: dict[str, Any] = {name: float(getattr(p, name)) for name in ("E_max", "E_min", "V_d")}
    plotting.pressure_volume_loop(ax, np.asarray(out.V_lv), np.asarray(out.P_lv), **lines)


def draw_pressures(ax: Axes, twin: Twin) -> None:
    """Draw pressures over two beats."""
    times, out = np.asarray(twin.solution.times), twin.solution.outputs
    shown = {"ventricle": out.P_lv, "aorta": out.P_ao, "left atrium": out.P_la}
    plotting.pressure_traces(ax, times, {name: np.asarray(x) for name, x in shown.items()})


def title(verdict: Verdict) -> list[str]:
    """Return the verdict in lines for a figure."""
    if not verdict.reasons:
        return [verdict.kind.capitalize()]
    first, *others = verdict.reasons
    more = f" (and {len(others)} more)" if others else ""
    return textwrap.wrap(f"{verdict.kind.upper()}: {first}{more}", 100)


def simulated_volume(twin: Twin, phases: int) -> Float[np.ndarray, " phase"]:
    """Return a twin's volume at evenly spaced phases, its first harmonic a cosine."""
    times, volume = np.asarray(twin.solution.times), np.asarray(twin.solution.outputs.V_lv)
    grid = np.arange(phases) / phases * (times[-1] - times[0])
    return turned(np.interp(grid, times - times[0], volume))


def scaled_volume(found: EchoTwin) -> Float[np.ndarray, " time"]:
    """Return the volume in each frame, scaled linearly so that EDV and ESV are the curve's [mL]."""
    raw, curve = found.measured.shape.volume, found.curve
    beats = found.measured.beats
    if curve is None or not beats.EDV > beats.ESV:
        return raw
    return curve.ESV + (raw - beats.ESV) * (curve.EDV - curve.ESV) / (beats.EDV - beats.ESV)


def over_time(found: EchoTwin, beat: Float[np.ndarray, " phase"]) -> Float[np.ndarray, " time"]:
    """Return the values of a beat, whose first harmonic is a cosine, at the times of the frames."""
    return np.interp(shifted_phase(found), np.arange(len(beat)) / len(beat), beat, period=1)


def shifted_phase(found: EchoTwin) -> Float[np.ndarray, " time"]:
    """Return the phase of each frame in the volume curve: the shift with which it fits best."""
    curve, volume = found.curve, scaled_volume(found)
    phase = found.measured.beats.phase(found.measured.times)
    assert curve is not None
    grid = np.arange(len(curve.volume)) / len(curve.volume)
    held = np.isfinite(volume)
    errors = [
        np.mean((np.interp(phase[held] + shift, grid, curve.volume, period=1) - volume[held]) ** 2)
        for shift in grid
    ]
    return np.mod(phase + grid[int(np.argmin(errors))], 1)


def _extremes(found: EchoTwin) -> tuple[int, int]:
    """Return the frames of the largest and smallest cavity."""
    area = found.measured.shape.area
    return int(np.argmax(area)), int(np.argmin(np.where(area > 0, area, np.inf)))


def draw_echo_twin(found: EchoTwin) -> Figure:
    """Draw outlines at end diastole and end systole, the volume curve, loop and pressures."""
    top: list[Any] = ["diastole", "systole", "volume", "volume"]
    bottom: list[Any] = ["loop", "loop", "pressure", "pressure"]
    if found.twin is None:
        figure = Figure(figsize=(12, 3.5), layout="constrained")
        axes = figure.subplot_mosaic([top])
    else:
        figure = Figure(figsize=(12, 7), layout="constrained")
        axes = figure.subplot_mosaic([top, bottom], height_ratios=[1, 1.3])
    for name, k in zip(("diastole", "systole"), _extremes(found), strict=True):
        plotting.contours(axes[name], found.measured.frames[k], found.measured.labels[k])
        axes[name].set_title(f"end {name}, {found.measured.times[k]:.2f} s", fontsize="small")
    draw_volume(axes["volume"], found)
    axes["volume"].legend(fontsize="small", frameon=False, loc="lower right", ncols=3)
    curve, twin = found.curve, found.twin
    lines = title(found.verdict)
    if curve is not None:
        lines.append(
            f"measured: EF {curve.EF:.0f} ± {curve.EF_error:.0f}%, EDV {curve.EDV:.0f} ± "
            f"{curve.EDV_error:.0f} mL, beat {curve.period:.2f} ± {curve.period_error:.2f} s"
        )
    if twin is not None:
        draw_loop(axes["loop"], twin)
        draw_pressures(axes["pressure"], twin)
        draw_bands(axes["loop"], axes["pressure"], found)
        for value in found.cuff.values():
            axes["pressure"].axhline(value, color="0.4", ls=":", lw=1)
        if found.cuff:
            told = ", ".join(f"{name} {value:.0f}" for name, value in found.cuff.items())
            lines.append(f"cuff (dotted): {told} mmHg")
        lines.append(
            f"simulated: EF {twin.readings['EF']:.0f}%, EDV {twin.readings['EDV']:.0f} mL, output "
            f"{twin.readings['output']:.1f} L/min"
        )
    figure.suptitle("\n".join(lines), fontsize="medium")
    return figure


def draw_bands(loop: Axes, pressure: Axes, found: EchoTwin) -> None:
    """Draw loops and pressures of patients who could have been measured so."""
    if found.draws is None or found.twin is None:
        return
    good = found.draws.success[0]
    waves = {name: x[0][good] for name, x in found.draws.waveforms.items()}
    plotting.loop_draws(loop, waves["V_lv"], waves["P_lv"])
    low, high = (np.nanquantile(waves[name].max(axis=1), 0.95) for name in ("V_lv", "P_lv"))
    loop.set(xlim=(0, max(1.1 * low, loop.get_xlim()[1])))
    loop.set(ylim=(0, max(1.2 * high, loop.get_ylim()[1])))
    period = float(np.asarray(found.twin.solution.times)[-1])
    times = np.arange(2 * waves["P_lv"].shape[1]) / waves["P_lv"].shape[1] * period
    for colour, name in (("C0", "P_lv"), ("C1", "P_ao")):
        plotting.band(pressure, times, np.tile(waves[name], 2), colour=colour)
    top = 1.25 * np.nanquantile(waves["P_lv"].max(axis=1), 0.95)
    pressure.set(ylim=(0, max(top, pressure.get_ylim()[1])))


def draw_corner(found: EchoTwin) -> Figure:
    """Draw the posterior of each parameter and each pair, without those that were measured.

    Lines are the twin's own parameters; dashed ones contain the central 90% of the posterior.
    """
    posterior, twin = found.posterior, found.twin
    assert posterior is not None and twin is not None
    box, theta = posterior.box, posterior.theta[0]
    # A measured period takes as few values as its error was drawn.
    shown = [k for k in range(len(box.names)) if len(np.unique(theta[:, k])) > len(theta) // 10]
    specs = [box.specs[k] for k in shown]
    logarithmic = [spec.name in box.logarithmic for spec in specs]

    def scaled(values: Any) -> np.ndarray:
        values = np.asarray(values, float)[..., shown]
        return np.where(logarithmic, np.log10(np.maximum(values, 1e-12)), values)

    labels = [
        f"{'log₁₀ ' * log}{spec.name}\n[{spec.unit}]"
        for spec, log in zip(specs, logarithmic, strict=True)
    ]
    figure = Figure(figsize=(1.5 * len(labels), 1.5 * len(labels)))
    corner.corner(
        scaled(theta),
        fig=figure,
        labels=labels,
        quantiles=(0.05, 0.95),
        truths=scaled(twin.theta).tolist(),
        truth_color="C3",
        color="C0",
        levels=(0.5, 0.9),
        smooth=1.2,
        plot_datapoints=False,
        max_n_ticks=3,
        label_kwargs={"fontsize": "small"},
    )
    figure.suptitle(
        "Patients who could have been measured so: regions that hold 50% and 90%\n"
        "(red: the twin; dashed: central 90%)",
        fontsize="medium",
    )
    return figure


def draw_volume(ax: Axes, found: EchoTwin) -> None:
    """Draw the volume in each frame, the calibrated curve with its error, and the twin's."""
    times, curve, twin = found.measured.times, found.curve, found.twin
    unit = "mL" if curve is not None or found.measured.pixel is not None else "1000 cubic pixels"
    ax.plot(times, scaled_volume(found), ".", color="0.5", ms=3, label="frame by frame")
    if curve is not None:
        middle, spread = over_time(found, curve.volume), over_time(found, curve.error)
        ax.plot(times, middle, color="C0", lw=1.2, label="measured")
        ax.fill_between(times, middle - spread, middle + spread, color="C0", alpha=0.2, lw=0)
        if twin is not None:
            simulated = over_time(found, simulated_volume(twin, len(curve.volume)))
            ax.plot(times, simulated, color="C3", lw=1.2, ls="--", label="twin")
            if found.draws is not None:
                drawn = turned(found.draws.waveforms["V_lv"][0][found.draws.success[0]])
                several = np.array([over_time(found, beat) for beat in drawn[:VOLUMES]])
                plotting.band(ax, times, several, colour="C3")
    ax.set(xlabel="time [s]", ylabel=f"volume of the ventricle [{unit}]", ylim=(0, None))


def write_film(path: Path, found: EchoTwin) -> None:
    """Write a moving picture (GIF) of clip and outline, volume curve and loop.

    Only what moves is drawn anew for each picture, so that a film takes seconds.
    """
    measured, twin = found.measured, found.twin
    figure = Figure(figsize=(9, 3.2), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    clip, volume, loop = figure.subplots(1, 3)
    draw_volume(volume, found)
    figure.suptitle(title(found.verdict)[0], fontsize="small")
    marks: list[Any] = [
        volume.plot([], [], "o", color="k", ms=5, animated=True)[0],
    ]
    picture = clip.imshow(measured.frames[0], cmap="gray", vmin=0, vmax=255, animated=True)
    clip.axis("off")
    states = None
    if twin is None:
        loop.axis("off")
    else:
        draw_loop(loop, twin)
        states = _states(found, twin)
        marks.append(loop.plot([], [], "o", color="k", ms=6, animated=True)[0])
    canvas.draw()
    background = canvas.copy_from_bbox(figure.bbox)
    step = max(-(-len(measured.times) // PICTURES), 1)
    chosen = np.arange(0, len(measured.times), step)
    volumes, pictures = scaled_volume(found), []
    for k in chosen:
        canvas.restore_region(background)
        picture.set_data(measured.frames[k])
        clip.draw_artist(picture)
        outline = clip.contour(measured.labels[k] == 1, [0.5], colors="C0", linewidths=1.2)
        clip.draw_artist(outline)
        outline.remove()
        marks[0].set_data([measured.times[k]], [volumes[k]])
        if states is not None:
            marks[1].set_data([states[0][k]], [states[1][k]])
        for ax, mark in zip((volume, loop), marks, strict=False):
            ax.draw_artist(mark)
        pictures.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    seconds = float(np.median(np.diff(measured.times))) * step * SLOWED
    iio.imwrite(path, np.stack(pictures), duration=round(1000 * seconds), loop=0)


def _states(found: EchoTwin, twin: Twin) -> tuple[np.ndarray, np.ndarray]:
    """Return the twin's volume and pressure at the time of each frame."""
    times = np.asarray(twin.solution.times)
    V, P = (np.asarray(x) for x in (twin.solution.outputs.V_lv, twin.solution.outputs.P_lv))
    share = (times - times[0]) / (times[-1] - times[0])
    grid = np.arange(240) / 240
    start = np.angle(np.fft.rfft(np.interp(grid, share, V))[1]) / (2 * np.pi)
    phase = np.mod(shifted_phase(found) - start, 1)
    return np.interp(phase, share, V), np.interp(phase, share, P)
