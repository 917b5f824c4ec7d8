"""The official Anthropic SDK and answers that are redacted or blocked. Arguments: gateway URL, admin URL, key, redact|block."""

import sys

import anthropic

gateway, admin, key, expected = sys.argv[1:5]
client = anthropic.Anthropic(base_url=gateway, api_key=key, max_retries=0)
CALL = {"model": "claude-demo", "max_tokens": 64, "messages": [{"role": "user", "content": "What do you have?"}]}


def plain():
    return client.messages.create(**CALL).content[0].text


def streamed():
    with client.messages.stream(**CALL) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn" and final.usage.output_tokens > 0, final
    assert "".join(pieces) == final.content[0].text, (pieces, final)
    return final.content[0].text


for ask in (plain, streamed):
    if expected == "redact":
        text = ask()
        assert "[REDACTED_CREDIT_CARD]" in text and "[REDACTED_AWS_ACCESS_KEY]" in text, (ask.__name__, text)
        assert "4111" not in text and "AKIA" not in text and text.endswith("done."), (ask.__name__, text)
        continue
    try:
        text = ask()
    except anthropic.APIStatusError as error:
        assert error.body["error"]["code"] == "content_filter", error.body
        assert error.body["error"]["message"].startswith("Response blocked"), error.body
    else:
        raise AssertionError(f"{ask.__name__} ended normally: {text}")

print(f"anthropic {anthropic.__version__} {expected}: ok")
