"""How the page looks: colours, dashes and the shared Vega configuration. It does not know what any number means.

Charts name CSS variables (`var(--r0)` …) instead of colours, so light, dark and print are decided by the page's CSS alone.
"""

from typing import Any

# Blue, vermilion, green, purple, amber … after Okabe & Ito (2008), darkened or lightened to a contrast of ≥ 3:1 on the page.
ROUTER_LIGHT = ("#0060a0", "#d04e00", "#00805c", "#b0508a", "#a87400", "#2f8fd0", "#5b3a8c", "#7a4b1f", "#6d7300", "#007d83")
ROUTER_DARK = ("#58aeea", "#ff8b42", "#35c99b", "#e69bc4", "#f0b43a", "#9ad6fa", "#b197e6", "#cf9f70", "#c9cd4a", "#54cfd3")
CONDITION_LIGHT = ("#c43d1d", "#0060a0", "#00805c", "#8a6100", "#5b3a8c", "#555555")
CONDITION_DARK = ("#ff8062", "#58aeea", "#35c99b", "#f0b43a", "#b197e6", "#b5b5b5")
DASHES: tuple[list[int], ...] = ([], [7, 2], [2, 2], [9, 2, 2, 2])
REFERENCE_DASHES: tuple[list[int], ...] = ([3, 3], [8, 3], [1, 3], [8, 3, 1, 3])
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"


def router_colour(index: int) -> str:
    """The CSS variable of the router at `index`; colours repeat after ten, dashes then differ."""
    return f"var(--r{index % len(ROUTER_LIGHT)})"


def router_dash(index: int) -> list[int]:
    """Solid for the first five, dashed for the next five, and so on, so that colour is never the only sign."""
    return DASHES[(index // 5) % len(DASHES)]


def reference_dash(index: int) -> list[int]:
    """References are all grey and never solid: their dashes differ."""
    return REFERENCE_DASHES[index % len(REFERENCE_DASHES)]


def condition_colour(index: int) -> str:
    return f"var(--c{index % len(CONDITION_LIGHT)})"


def condition_dash(index: int) -> list[int]:
    return DASHES[index % len(DASHES)]


def css_colours(dark: bool) -> str:
    """The declarations of every data colour, for one theme."""
    routers, conditions = (ROUTER_DARK, CONDITION_DARK) if dark else (ROUTER_LIGHT, CONDITION_LIGHT)
    pairs = [(f"r{i}", c) for i, c in enumerate(routers)] + [(f"c{i}", c) for i, c in enumerate(conditions)]
    return " ".join(f"--{name}: {colour};" for name, colour in pairs)


def vega_config() -> dict[str, Any]:
    """The configuration that every chart of the page shares."""
    ink, soft, grid = "var(--ink)", "var(--soft)", "var(--grid)"
    axis = {
        "labelColor": soft,
        "titleColor": soft,
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "gridColor": grid,
        "domainColor": grid,
        "tickColor": grid,
        "labelLimit": 150,
    }
    return {
        "background": "transparent",
        "font": FONT,
        "padding": 4,
        "view": {"stroke": "transparent"},
        "axis": axis,
        "axisY": {"tickCount": 4},
        "title": {"color": ink, "anchor": "start", "fontSize": 12, "fontWeight": 600, "offset": 6},
        "header": {"labelColor": ink, "titleColor": ink, "labelFontSize": 12},
        "line": {"strokeWidth": 1.6, "strokeJoin": "round"},
        "text": {"fill": ink, "fontSize": 11},
        "rule": {"stroke": soft},
    }
