//! Keeps credentials out of every message.
//!
//! A backend's error may quote a signed URL or a request. Whatever it says passes [`Secrets::redact`] before it
//! becomes an error of this program. Nothing here ever stores a credential elsewhere: records, logs and objects
//! are made of other things.

/// Values that must not be printed, of one opened store.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

/// Environment variables whose values are secret.
const NAMES: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_TOKEN",
    "AWS_SSE_CUSTOMER_KEY_BASE64",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_MASTER_KEY",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_CLIENT_SECRET",
    "AZURE_CLIENT_SECRET",
    "AZURE_STORAGE_TOKEN",
    "AZURE_STORAGE_ENCRYPTION_KEY",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_BEARER_TOKEN",
];

/// Parts of a signed URL or a header: what stands after one, up to a delimiter, is secret.
const MARKS: &[&str] =
    &["sig=", "Signature=", "X-Amz-Credential=", "X-Amz-Security-Token=", "X-Goog-Credential=", "Bearer "];

/// Shorter values are no credentials, and replacing them would garble messages.
const SHORTEST: usize = 6;

const HIDDEN: &str = "***";

impl Secrets {
    pub fn from_env() -> Self {
        let mut secrets = Secrets::default();
        for value in NAMES.iter().filter_map(|name| std::env::var(name).ok()) {
            secrets.add(&value);
        }
        secrets
    }

    pub fn add(&mut self, value: &str) {
        if value.len() >= SHORTEST {
            self.0.push(value.into());
        }
    }

    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_string();
        for secret in &self.0 {
            if text.contains(secret) {
                text = text.replace(secret, HIDDEN);
            }
        }
        for mark in MARKS {
            let mut from = 0;
            while let Some(at) = text[from..].find(mark) {
                let start = from + at + mark.len();
                let rest = &text[start..];
                let ends = |c: char| matches!(c, '&' | '"' | '\'' | ',' | ')' | '<') || c.is_whitespace();
                let end = start + rest.find(ends).unwrap_or(rest.len());
                text.replace_range(start..end, HIDDEN);
                from = start + HIDDEN.len();
            }
        }
        text
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_loses_its_secrets_and_nothing_else() {
        let mut secrets = Secrets::default();
        secrets.add("wJalrXUtnFEMI");
        secrets.add("ab");
        let text = "PUT http://h/c/x?sv=1&sig=aB%2Fc&se=2 by wJalrXUtnFEMI (about Signature=00ff, x) \"Bearer e.y.J\"";
        let shown = secrets.redact(text);
        assert_eq!(shown, "PUT http://h/c/x?sv=1&sig=***&se=2 by *** (about Signature=***, x) \"Bearer ***\"");
        assert_eq!(secrets.redact("no such bucket: about"), "no such bucket: about");
        assert!(!format!("{secrets:?}").contains("wJalr"));
    }
}
