"""The official OpenAI SDK and answers that are redacted or blocked. Arguments: gateway URL, admin URL, key, redact|block."""

import sys

import openai

gateway, admin, key, expected = sys.argv[1:5]
client = openai.OpenAI(base_url=f"{gateway}/v1", api_key=key, max_retries=0)
CALL = {"model": "gpt-demo", "messages": [{"role": "user", "content": "What do you have?"}]}


def plain():
    return client.chat.completions.create(**CALL).choices[0].message.content


def streamed():
    chunks = list(client.chat.completions.create(**CALL, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens > 0, chunks[-1]
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def responses():
    return client.responses.create(model="gpt-demo", input="What do you have?").output_text


def responses_streamed():
    pieces, final = [], None
    for event in client.responses.create(model="gpt-demo", input="What do you have?", stream=True):
        if event.type == "response.output_text.delta":
            pieces.append(event.delta)
        elif event.type == "response.completed":
            final = event.response.output_text
    assert "".join(pieces) == final, (pieces, final)
    return final


for ask in (plain, streamed, responses, responses_streamed):
    if expected == "redact":
        text = ask()
        assert "[REDACTED_CREDIT_CARD]" in text and "[REDACTED_AWS_ACCESS_KEY]" in text, (ask.__name__, text)
        assert "4111" not in text and "AKIA" not in text and text.endswith("done."), (ask.__name__, text)
        continue
    try:
        text = ask()
    except openai.APIError as error:
        assert error.code == "content_filter", (ask.__name__, error.code, error)
        if isinstance(error, openai.APIStatusError):
            assert error.status_code == 400 and error.body["message"].startswith("Response blocked"), error.body
    else:
        raise AssertionError(f"{ask.__name__} ended normally: {text}")

print(f"openai {openai.__version__} {expected}: ok")
