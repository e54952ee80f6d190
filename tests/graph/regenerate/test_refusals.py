"""A loop that cannot work is refused before anything is generated, or its end says what did not work."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.loops import Since, end, failed, generate, loop, passed, records, refusal, start, summary, verdicts
from support.prompts import Prompt, evaluate, node
from support.server import ComfyUI, PromptFailed

from runflow_api.sandbox.app import Sandbox


def unconnected(prompt: str) -> Prompt:
    return {**loop(prompt), **generate("2", prompt=prompt, seed=1)}


def unconnected_but_previewed(prompt: str) -> Prompt:
    """ComfyUI could make the image for the preview before it asks End."""
    return {**node("5", "PreviewImage", images=["2", 0]), **unconnected(prompt), **evaluate("3", ["2", 0])}


def unkept_attempts(prompt: str) -> Prompt:
    inner = end("14", image=["4", 8])
    return {**loop(prompt, next_seed="random"), **inner, **evaluate("3", ["2", 0]), **records("14")}


def unjudged_inside(prompt: str) -> Prompt:
    graph = {**loop(prompt), **end("14", image=["4", 0], evaluation=["4", 7]), **records("14")}
    del graph["4"]["inputs"]["evaluation"]
    return graph


def no_loop(prompt: str) -> Prompt:
    return loop(prompt) | end(loop="a text")


def no_evaluation(prompt: str) -> Prompt:
    return loop(prompt) | end(evaluation="a text")


def only_the_kept_prompt(prompt: str) -> Prompt:
    return {**loop(prompt, next_prompt="keep"), **generate("2", seed=1)}


def only_the_kept_seed(prompt: str) -> Prompt:
    return {**loop(prompt, next_seed="keep"), **generate("2", prompt=prompt)}


def image_from_outside(prompt: str) -> Prompt:
    return {**loop(prompt, image=["5", 0]), **generate("5", prompt=prompt, seed=1)}


def foreign_evaluation(prompt: str) -> Prompt:
    other = {**generate("5", prompt=prompt, seed=1), **evaluate("6", ["5", 0], judge="off")}
    return {**loop(prompt, evaluation=["6", 4]), **other}


def split_before_end(prompt: str) -> Prompt:
    split = node("5", "RunflowSplitByVerdict", image=["2", 0], evaluation=["3", 4])
    return {**loop(prompt, image=["6", 0], evaluation=["5", 6]), **split, **node("6", "ImageInvert", image=["5", 0])}


def split_evaluation(prompt: str) -> Prompt:
    split = node("5", "RunflowSplitByVerdict", image=["2", 0], evaluation=["3", 4])
    return {**loop(prompt, evaluation=["5", 7]), **split}


def half_a_switch(prompt: str) -> Prompt:
    switch = node("5", "RunflowVerdictSwitch", passed=["3", 0], on_pass=["2", 0])
    return {**loop(prompt, image=["5", 0]), **switch}


def too_many_attempts(prompt: str) -> Prompt:
    return {**loop(prompt, max_attempts=["5", 0]), **node("5", "PrimitiveInt", value=101)}


def bridge_that_mutes(prompt: str) -> Prompt:
    bridge = node("5", "ImpactControlBridge", value=["2", 0], mode=True, behavior="Mute")
    return {**loop(prompt, image=["5", 0]), **bridge}


def widget_to_string(prompt: str) -> Prompt:
    return {**loop(prompt, image=["5", 0]), **node("5", "WidgetToString", any_input=["2", 0])}


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (
            bridge_that_mutes,
            "[INVALID_INPUT] loop: node 5 (ImpactControlBridge) looks for itself in the workflow if its",
        ),
        (
            widget_to_string,
            "loop: node 5 (WidgetToString) looks for itself in the workflow, and in attempt 2 it is not",
        ),
        (unconnected, "[INVALID_INPUT] image: is the same at every attempt"),
        (unconnected_but_previewed, "[INVALID_INPUT] image: is the same at every attempt"),
        (unkept_attempts, "comes through node 4, whose attempt_images are not sent on"),
        (unjudged_inside, "[INVALID_INPUT] evaluation: comes through node 4, an End that has no evaluation"),
        (no_loop, "[INVALID_INPUT] loop: must come from Regenerate Until Passed: Start"),
        (only_the_kept_prompt, "the prompt is connected, but next_prompt is keep"),
        (only_the_kept_seed, "the seed is connected, but next_seed is keep"),
        (image_from_outside, "Connect current_seed to your sampler's seed"),
        (foreign_evaluation, "[INVALID_INPUT] evaluation: does not come from this loop"),
        (split_before_end, "[INVALID_INPUT] image: comes through node 5, Split Passed / Failed, which sends nothing"),
        (split_evaluation, "[INVALID_INPUT] evaluation: comes through node 5, Split Passed / Failed"),
        (half_a_switch, "[INVALID_INPUT] image: comes through node 5, a Quality Switch that sends nothing on"),
        (too_many_attempts, "[INVALID_INPUT] max_attempts: 101 is not between 1 and 100"),
    ],
)
def test_a_loop_that_cannot_work_is_refused_before_anything_is_generated(
    server: ComfyUI,
    sandbox: Sandbox,
    since: Since,
    prompt: str,
    graph: Callable[[str], Prompt],
    said: str,
) -> None:
    assert said in refusal(server, graph(prompt))
    assert (since.generated, since.judged) == ([], [])


def test_keep_with_keep_is_refused_when_it_is_queued(server: ComfyUI, since: Since, prompt: str) -> None:
    with pytest.raises(PromptFailed, match="next_prompt keep with next_seed keep makes the same attempt again"):
        server.run(loop(prompt, next_prompt="keep", next_seed="keep"))


def test_a_start_outside_of_the_loop_that_its_end_is_in_is_refused(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    """The outer loop's first attempt could run as it stands; the second would hold a clone of End without Start."""
    graph = {
        **start(prompt),
        **start(prompt, 50, "11"),
        **generate("2", prompt=["11", 1]),
        **evaluate("3", ["2", 0]),
        **end(),
        **evaluate("13", ["4", 0], evaluation_instructions="outer"),
        **end("14", loop=["11", 0], image=["4", 0], evaluation=["13", 4]),
        **records("14"),
    }
    assert "[INVALID_INPUT] loop: Start is not in the same loop as End 4" in refusal(server, graph)
    assert (since.generated, since.judged) == ([], [])


def test_what_is_no_evaluation_is_refused(server: ComfyUI, prompt: str) -> None:
    assert "[INVALID_INPUT] evaluation: must come from Evaluate Image Quality" in refusal(server, no_evaluation(prompt))


def test_an_improved_prompt_that_does_not_reach_the_image_is_said_before_and_after(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3, f"{prompt}, better"), passed())
    history = server.run({**loop(prompt), **generate(prompt="typed into the sampler's encoder")})
    assert "current_prompt does not reach the image: connect it to your text encoder" in history.texts["1"][0]
    (warning,) = summary(history)["warnings"]
    assert warning == "the prompt of the attempts changed, but current_prompt does not reach the image"
    assert since.judged == [prompt, f"{prompt}, better"]


def test_a_seed_that_does_not_reach_the_image_makes_no_second_equal_attempt(
    server: ComfyUI, sandbox: Sandbox, since: Since, prompt: str
) -> None:
    verdicts(sandbox, failed(0.3))
    history = server.run({**loop(prompt), **generate(seed=1234)})
    assert "current_seed does not reach the image: connect it to your sampler's seed" in history.texts["1"][0]
    assert summary(history)["reason"] == "what changes does not reach the image: the next attempt would be the same"
    assert (len(since.generated), since.bills, since.recorded["seed"]) == (1, 1, 7)
