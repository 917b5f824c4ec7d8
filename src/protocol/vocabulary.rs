//! The words that the dialects know: names of fields, and values of fields that choose from a fixed list.
//!
//! A key that is one of them is structure and needs no detector; any other key is text like any other. Known keys are
//! also all that a path may show: an unknown one could itself be somebody's address.

macro_rules! vocabulary {
    ($($name:ident = $text:literal),* $(,)?) => {
        /// A known word.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub(super) enum Word {
            Unknown,
            $($name),*
        }

        const WORDS: &[Word] = &[Word::Unknown, $(Word::$name),*];
        const TEXTS: &[&str] = &["", $($text),*];
    };
}

vocabulary! {
    Empty = "",
    // The envelope.
    Model = "model", Messages = "messages", Stream = "stream", StreamOptions = "stream_options",
    IncludeUsage = "include_usage", User = "user", SafetyIdentifier = "safety_identifier",
    PromptCacheKey = "prompt_cache_key", Metadata = "metadata", UserId = "user_id", System = "system",
    Instructions = "instructions", Input = "input", Inputs = "inputs", Prompt = "prompt", Suffix = "suffix",
    Template = "template", Query = "query", Documents = "documents", Store = "store", Background = "background",
    PreviousResponseId = "previous_response_id", Conversation = "conversation", History = "history",
    Requests = "requests", CustomId = "custom_id", Params = "params", Body = "body", Method = "method", Url = "url",
    Include = "include", Options = "options", KeepAlive = "keep_alive", Context = "context", Raw = "raw",
    SystemPrompt = "system_prompt", UserInput = "user_input", Data = "data",
    // Sampling and limits.
    Temperature = "temperature", TopP = "top_p", TopK = "top_k", MaxTokens = "max_tokens",
    MaxCompletionTokens = "max_completion_tokens", MaxOutputTokens = "max_output_tokens", N = "n", Seed = "seed",
    Stop = "stop", StopSequences = "stop_sequences", PresencePenalty = "presence_penalty",
    FrequencyPenalty = "frequency_penalty", LogitBias = "logit_bias", Logprobs = "logprobs",
    TopLogprobs = "top_logprobs", ResponseFormat = "response_format", ServiceTier = "service_tier",
    Reasoning = "reasoning", ReasoningEffort = "reasoning_effort", Effort = "effort", Verbosity = "verbosity",
    Modalities = "modalities", Truncation = "truncation", Thinking = "thinking", BudgetTokens = "budget_tokens",
    EncodingFormat = "encoding_format", Dimensions = "dimensions", ParallelToolCalls = "parallel_tool_calls",
    Prediction = "prediction", MaxToolCalls = "max_tool_calls", NumCtx = "num_ctx", NumPredict = "num_predict",
    BestOf = "best_of", Echo = "echo", Think = "think",
    // A message and its parts.
    Role = "role", Content = "content", Type = "type", Text = "text", Name = "name", Id = "id", Refusal = "refusal",
    ToolCalls = "tool_calls", ToolCallId = "tool_call_id", FunctionCall = "function_call", CallId = "call_id",
    Arguments = "arguments", Output = "output", Results = "results", Summary = "summary", Status = "status",
    ImageUrl = "image_url", Detail = "detail", InputAudio = "input_audio", Audio = "audio", Format = "format",
    File = "file", FileId = "file_id", FileData = "file_data", Filename = "filename", Voice = "voice",
    Source = "source", MediaType = "media_type", CacheControl = "cache_control", Ttl = "ttl", Title = "title",
    Citations = "citations", Enabled = "enabled", ToolUseId = "tool_use_id", IsError = "is_error",
    Signature = "signature", Annotations = "annotations", Images = "images", Prefix = "prefix", Parts = "parts",
    Image = "image", Document = "document", Json = "json", Thought = "thought",
    EncryptedContent = "encrypted_content", ToolName = "tool_name",
    // Tools.
    Tools = "tools", Functions = "functions", Function = "function", ToolChoice = "tool_choice",
    Description = "description", Parameters = "parameters", InputSchema = "input_schema", Strict = "strict",
    Properties = "properties", Required = "required", Items = "items", Enum = "enum", Default = "default",
    AdditionalProperties = "additionalProperties", SchemaUri = "$schema", AnyOf = "anyOf", OneOf = "oneOf",
    AllOf = "allOf", Minimum = "minimum", Maximum = "maximum", MinLength = "minLength", MaxLength = "maxLength",
    MinItems = "minItems", MaxItems = "maxItems", Pattern = "pattern", Const = "const", Schema = "schema",
    JsonSchema = "json_schema", Definitions = "definitions", Defs = "$defs", Ref = "$ref", Nullable = "nullable",
    // Gemini and Bedrock.
    Contents = "contents", SystemInstruction = "systemInstruction", SystemInstructionSnake = "system_instruction",
    GenerationConfig = "generationConfig", SafetySettings = "safetySettings", ToolConfig = "toolConfig",
    FunctionDeclarations = "functionDeclarations", GeminiFunctionCall = "functionCall",
    GeminiFunctionResponse = "functionResponse", Response = "response", Args = "args", InlineData = "inlineData",
    MimeType = "mimeType", FileUri = "fileUri", CamelFileData = "fileData", Threshold = "threshold",
    Category = "category", CamelMaxOutputTokens = "maxOutputTokens", CamelTopP = "topP", CamelTopK = "topK",
    CamelStopSequences = "stopSequences", CamelMaxTokens = "maxTokens", InferenceConfig = "inferenceConfig",
    ToolUse = "toolUse", ToolResult = "toolResult", ToolUseIdCamel = "toolUseId", ToolSpec = "toolSpec",
    CamelContentBlockIndex = "contentBlockIndex", CamelReasoningContent = "reasoningContent",
    CamelRedactedContent = "redactedContent", Citation = "citation", Generation = "generation",
    CamelOutputText = "outputText", Completion = "completion",
    InputSchemaCamel = "inputSchema", Bytes = "bytes", AnthropicVersion = "anthropic_version",
    // Values only: roles, types and the like.
    Developer = "developer", Assistant = "assistant", Tool = "tool", Human = "human", Auto = "auto", None = "none",
    Any = "any", High = "high", Medium = "medium", Low = "low", Minimal = "minimal", Message = "message",
    InputText = "input_text", OutputText = "output_text", InputImage = "input_image", InputFile = "input_file",
    FunctionCallOutput = "function_call_output", ToolUseSnake = "tool_use", ToolResultSnake = "tool_result",
    RedactedThinking = "redacted_thinking", Base64 = "base64", Float = "float", Ephemeral = "ephemeral",
    JsonObject = "json_object", Object = "object", String = "string", Number = "number", Integer = "integer",
    Boolean = "boolean", Array = "array", Null = "null", ImagePng = "image/png", ImageJpeg = "image/jpeg",
    ApplicationPdf = "application/pdf", TextPlain = "text/plain", Completed = "completed", Flex = "flex",
    Disabled = "disabled", ItemReference = "item_reference", Custom = "custom", Priority = "priority",
    // Answers.
    Choices = "choices", Delta = "delta", Index = "index", FinishReason = "finish_reason", Usage = "usage",
    Created = "created", CreatedAt = "created_at", ReasoningContent = "reasoning_content",
    PartialJson = "partial_json", ContentBlock = "content_block", StopReason = "stop_reason",
    StopSequence = "stop_sequence", Candidates = "candidates", CamelFinishReason = "finishReason",
    UsageMetadata = "usageMetadata", Embedding = "embedding", Embeddings = "embeddings", OutputIndex = "output_index",
    ContentIndex = "content_index", SummaryIndex = "summary_index", ItemId = "item_id",
    SequenceNumber = "sequence_number", Item = "item", Part = "part", Done = "done", DoneReason = "done_reason",
    SystemFingerprint = "system_fingerprint", Error = "error", Code = "code", Token = "token",
    Transcript = "transcript", PromptTokens = "prompt_tokens",
    CompletionTokens = "completion_tokens", InputTokens = "input_tokens", OutputTokens = "output_tokens",
    TotalTokens = "total_tokens", ModelVersion = "modelVersion", ResponseId = "responseId",
}

/// Bytes of the longest word.
const LONGEST: usize = longest();
const SLOTS: usize = 2048;

/// Open addressing with linear steps, built at compile time; about an eighth full.
static TABLE: [Word; SLOTS] = table();

const _: () = assert!(WORDS.len() <= 384, "a word must fit the 384 bits of a frame's set");

impl Word {
    /// The word that `text` is, or [`Word::Unknown`].
    #[inline]
    pub(super) fn of(text: &str) -> Self {
        let text = text.as_bytes();
        if text.len() > LONGEST {
            return Self::Unknown;
        }
        let mut slot = hash(text);
        loop {
            match TABLE.get(slot) {
                None | Some(Self::Unknown) => return Self::Unknown,
                Some(word) if word.text().as_bytes() == text => return *word,
                Some(_) => slot = (slot + 1) % SLOTS,
            }
        }
    }

    /// As it is written; empty for [`Word::Unknown`].
    pub(super) fn text(self) -> &'static str {
        TEXTS.get(self as usize).copied().unwrap_or_default()
    }

    /// A field whose value chooses from a fixed list.
    pub(super) const fn names_a_choice(self) -> bool {
        matches!(
            self,
            Self::Type
                | Self::Role
                | Self::Detail
                | Self::Format
                | Self::Effort
                | Self::ReasoningEffort
                | Self::Verbosity
                | Self::ServiceTier
                | Self::Truncation
                | Self::ToolChoice
                | Self::EncodingFormat
                | Self::Modalities
                | Self::MediaType
                | Self::MimeType
                | Self::Status
        )
    }
}

#[expect(clippy::indexing_slicing, reason = "below the length, as long as there is one")]
const fn hash(text: &[u8]) -> usize {
    let (first, middle, late, last) = match text {
        [] => (0, 0, 0, 0),
        [first, ..] => (*first, text[text.len() / 2], text[text.len() * 3 / 4], text[text.len() - 1]),
    };
    let mixed = (text.len() as u32)
        .wrapping_mul(0x9E37_79B1)
        .wrapping_add((first as u32).wrapping_mul(0x85EB_CA6B))
        .wrapping_add((middle as u32).wrapping_mul(0xC2B2_AE35))
        .wrapping_add((late as u32).wrapping_mul(0x1656_67B1))
        .wrapping_add((last as u32).wrapping_mul(0x27D4_EB2F));
    (mixed >> 21) as usize % SLOTS
}

#[expect(clippy::indexing_slicing, reason = "runs at compile time, where a panic is an error of the build")]
const fn longest() -> usize {
    let (mut longest, mut i) = (0, 0);
    while i < TEXTS.len() {
        if TEXTS[i].len() > longest {
            longest = TEXTS[i].len();
        }
        i += 1;
    }
    longest
}

#[expect(clippy::indexing_slicing, reason = "runs at compile time, where a panic is an error of the build")]
const fn table() -> [Word; SLOTS] {
    let mut table = [Word::Unknown; SLOTS];
    let mut i = 1;
    while i < WORDS.len() {
        let mut slot = hash(TEXTS[i].as_bytes());
        while !matches!(table[slot], Word::Unknown) {
            slot = (slot + 1) % SLOTS;
        }
        table[slot] = WORDS[i];
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_by_its_text_and_nothing_else_is() {
        for (word, text) in WORDS.iter().zip(TEXTS).skip(1) {
            assert_eq!(Word::of(text), *word, "{text}");
            assert_eq!(word.text(), *text);
            assert_eq!(Word::of(&format!("{text}_")), Word::Unknown);
        }
        assert_eq!(Word::of("Content"), Word::Unknown);
        assert_eq!(Word::of(&"x".repeat(300)), Word::Unknown);
    }

    #[test]
    fn no_word_needs_a_long_walk_through_the_table() {
        let longest = TEXTS
            .iter()
            .skip(1)
            .map(|text| {
                let start = hash(text.as_bytes());
                (0..SLOTS).find(|step| TABLE[(start + step) % SLOTS].text() == *text).unwrap()
            })
            .max();
        assert!(longest.unwrap() <= 4, "{longest:?}");
    }
}
