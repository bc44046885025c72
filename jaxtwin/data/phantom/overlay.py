"""What scanners burn into the picture: an orientation marker, depth marks, text, an ECG strip."""

import numpy as np
from jaxtyping import Float, UInt8

from jaxtwin.data.phantom.view import View

MARKER, DEPTH_MARKS, TEXT, ECG = range(4)
ECG_ROWS = 9  # height of the strip


def burn_in(
    frames: UInt8[np.ndarray, "time height width"], view: View, phases: Float[np.ndarray, " time"]
) -> UInt8[np.ndarray, "time height width"]:
    """Return the frames with the overlays that the view shows.

    Args:
        frames: Brightness.
        view: View of the clip; `overlay` says which are shown, and where.
        phases: Phase of the beat in each frame, for the ECG.
    """
    draws, probability = np.asarray(view.overlay), float(view.overlays)
    if not (draws < probability).any():
        return frames
    frames = frames.copy()
    _, height, width = frames.shape
    # Within the probability, each draw is uniform again: it serves to place its own overlay.
    place = draws / max(probability, 1e-6)
    bright = 160 + int(95 * place.max() % 1 * 95) % 96
    if place[MARKER] < 1:
        column = round(width / 2 + (8 + 10 * place[MARKER]) * (1 if place[MARKER] > 0.5 else -1))
        row = max(round(float(view.top)) - 2, 1)
        frames[:, row : row + 3, column + 1] = bright
        frames[:, row + 1, column : column + 3] = bright
    if place[DEPTH_MARKS] < 1:
        for row in range(round(10 * place[DEPTH_MARKS]), height, round(9 + 8 * place[DEPTH_MARKS])):
            frames[:, row, width - 4 : width - 1] = bright
    if place[TEXT] < 1:
        random = np.random.default_rng(int(place[TEXT] * 2**31))
        glyphs = (random.uniform(size=(2, 5, 24)) < 0.5) * np.uint8(bright)
        glyphs[..., 3::4] = 0  # the gaps between letters
        left = 1 if place[TEXT] < 0.5 else width - 25
        for line, glyph in enumerate(glyphs):
            part = frames[:, 2 + 7 * line : 7 + 7 * line, left : left + 24]
            np.maximum(part, glyph, out=part)
    if place[ECG] < 1:
        strip = frames[:, height - ECG_ROWS :]
        strip[:] = 0
        now = np.linspace(0, width - 1, len(frames))
        # The QRS complex is at phase 0, end diastole; the T wave at its end.
        wave = np.exp(-np.square((np.mod(phases + 0.5, 1) - 0.5) / 0.03))
        wave += 0.3 * np.exp(-np.square((phases - 0.35) / 0.06))
        curve = np.interp(np.arange(width), now, wave)
        rows = np.round((ECG_ROWS - 2) * (1 - curve / 1.05)).astype(int).clip(0, ECG_ROWS - 1)
        for time, until in enumerate(now):
            columns = np.arange(round(until) + 1)
            strip[time, rows[columns], columns] = bright
    return frames
