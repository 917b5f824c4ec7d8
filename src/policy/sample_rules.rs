//! Rules like those of the built-in engine, for tests of what needs only their names.

use std::sync::Arc;

use crate::domain::{Category, Detector, Finding, Rule, Severity};

pub(super) fn rules() -> Vec<Arc<Rule>> {
    use Category::{Jailbreak, Pii, PromptExtraction, PromptInjection, Secrets};
    use Severity::{Critical, High, Low, Medium};
    let pii = |entity: &'static str, severity| (format!("pii.{}", entity.to_lowercase()), Pii, entity, severity);
    let mut list = vec![
        ("injection.override_instructions".to_owned(), PromptInjection, "prompt_injection", High),
        ("injection.new_instructions".to_owned(), PromptInjection, "prompt_injection", Medium),
        ("injection.dan".to_owned(), Jailbreak, "jailbreak", High),
        ("injection.reveal_prompt".to_owned(), PromptExtraction, "prompt_extraction", Medium),
        ("secrets.github_token".to_owned(), Secrets, "GITHUB_TOKEN", Critical),
        ("secrets.private_key".to_owned(), Secrets, "PRIVATE_KEY", Critical),
        ("pii.credit_card_in_context".to_owned(), Pii, "CREDIT_CARD", High),
    ];
    list.extend([
        pii("CREDIT_CARD", High),
        pii("US_SSN", High),
        pii("US_ITIN", High),
        pii("IBAN_CODE", High),
        pii("US_PASSPORT", High),
        pii("EMAIL_ADDRESS", Medium),
        pii("PHONE_NUMBER", Medium),
        pii("IP_ADDRESS", Low),
        pii("MAC_ADDRESS", Low),
        pii("DATE_OF_BIRTH", Medium),
        pii("SWIFT_CODE", Low),
        pii("US_BANK_NUMBER", Medium),
        pii("IN_PAN", Medium),
        pii("MX_RFC", Medium),
        pii("AU_ABN", Medium),
        pii("AU_ACN", Medium),
        pii("BR_CNPJ", Medium),
        pii("IT_VAT_CODE", Medium),
        pii("VIN", Medium),
        pii("IMEI", Medium),
    ]);
    list.sort();
    let rule = |(id, category, entity, severity): (String, Category, &str, Severity)| {
        let detector = match category {
            Pii => Detector::Pii,
            Secrets => Detector::Secrets,
            _ => Detector::Injection,
        };
        Arc::new(Rule { id: id.into(), detector, category, entity: entity.into(), severity })
    };
    list.into_iter().map(rule).collect()
}

pub(super) fn found(id: &str, confidence: f32) -> Finding {
    let rule = rules().into_iter().find(|rule| &*rule.id == id).unwrap();
    Finding { rule, confidence, span: 0..1, segment: 0, allowed_by: None }
}
