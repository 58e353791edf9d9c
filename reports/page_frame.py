"""What every page shares: colours, the chart library, one style, one script, and a policy that lets nothing else run."""

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
LIGHT = {
    "page": "#fdfdfc", "card": "#ffffff", "ink": "#1c2024", "soft": "#565d66", "line": "#d9dce0", "grid": "#e4e7ea",
    "shade": "#80808018", "burst": "#f0a53a40", "event": "#5b3a8c", "event-shade": "#7a55b02b",
    "accent": "#0060a0", "good": "#00734f", "bad": "#b3361a", "warn": "#8a5a00",
    "chip": "#f1f3f5", "oracle": "#7a8088",
}  # fmt: skip
DARK = {
    "page": "#15181b", "card": "#1b1f23", "ink": "#e6e8ea", "soft": "#a2aab3", "line": "#343a40", "grid": "#2a2f35",
    "shade": "#90909020", "burst": "#f0a53a3d", "event": "#b9a3ee", "event-shade": "#a98ff038",
    "accent": "#7cc0f2", "good": "#4fd0a2", "bad": "#ff8f75", "warn": "#e5b04f",
    "chip": "#262b31", "oracle": "#9aa1a9",
}  # fmt: skip


def chart_library() -> str:
    """Vega, Vega-Lite and vega-embed as one script; two seconds of work outside Python's lock, so it runs beside the queries."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def script_json(value: Any) -> "Markup":
    """JSON that is safe inside a script element: no `<` is left that could end it."""
    from markupsafe import Markup

    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    for sign, escape in (("<", "\\u003c"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029")):
        text = text.replace(sign, escape)
    return Markup(text)


def rendered(template: str, content: dict[str, Any], library: str, more_css: str = "") -> str:
    """A whole page; the two scripts are allowed by their hashes alone, so nothing else on the page can run."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from reports import theme

    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    bundle = f"(() => {{\n{library}\n}})();".replace("</script", "<\\/script").replace("<!--", "<\\!--")
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    css = environment.get_template("page.css").render(
        light_base=_declared(LIGHT),
        dark_base=Markup("color-scheme: dark; ") + _declared(DARK),
        light_colours=Markup(theme.css_colours(dark=False)),
        dark_colours=Markup(theme.css_colours(dark=True)),
        font=Markup(theme.FONT),
    )
    return environment.get_template(template).render(
        **content,
        css=Markup(css + more_css),
        config_json=script_json(theme.vega_config()),
        bundle=Markup(bundle),
        page_js=Markup(script),
        script_hashes=Markup(" ".join(f"'sha256-{_digest(s)}'" for s in (bundle, script))),
    )


def write_page(text: str, out: Path) -> Path:
    """Writes `out` aside, renames it when whole, and returns it; OSError where it cannot be written."""
    aside = out.with_name(f".{out.name}-{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(out)
    finally:
        aside.unlink(missing_ok=True)
    return out


def _declared(colours: dict[str, str]) -> "Markup":
    from markupsafe import Markup

    return Markup(" ".join(f"--{name}: {value};" for name, value in colours.items()))


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def columns(frame: "pl.DataFrame") -> dict[str, list[Any]]:
    """A frame by column, numbers in 5 significant digits: a third of the size of rows."""
    return {name: [_short(value) for value in frame[name].to_list()] for name in frame.columns}


def _short(value: Any) -> Any:
    if isinstance(value, float):
        short = float(f"{value:.5g}")
        return int(short) if short.is_integer() and abs(short) < 1e15 else short
    return value
