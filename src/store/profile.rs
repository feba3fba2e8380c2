//! The shared files of the AWS tools: `~/.aws/credentials` and `~/.aws/config`.
//!
//! Reads keys, region and endpoint of one profile. Single sign-on, assumed roles and `credential_process` are
//! left to those tools: `aws configure export-credentials --format env` turns them into an environment.

use std::{collections::HashMap, path::PathBuf};

/// What one profile says; absent fields are not set there.
#[derive(Default)]
pub struct Profile {
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<String>,
    pub session_token: Option<String>,
    pub region: Option<String>,
    pub endpoint_url: Option<String>,
}

impl Profile {
    /// The profile that `AWS_PROFILE` names, or `default`. Files that are not there say nothing.
    pub fn from_files() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let home = |file: &str| set("HOME").map(|h| PathBuf::from(h).join(".aws").join(file));
        let read = |variable: &str, file: &str| {
            let path = set(variable).map(PathBuf::from).or_else(|| home(file));
            path.and_then(|p| std::fs::read_to_string(p).ok()).unwrap_or_default()
        };
        let name = set("AWS_PROFILE").unwrap_or_else(|| "default".into());
        Profile::parse(&name, &read("AWS_SHARED_CREDENTIALS_FILE", "credentials"), &read("AWS_CONFIG_FILE", "config"))
    }

    /// A section is `[NAME]` in the first file and `[profile NAME]` in the second, where the default is `[default]`.
    fn parse(name: &str, credentials: &str, config: &str) -> Self {
        let in_config = if name == "default" { name.to_string() } else { format!("profile {name}") };
        let mut fields = section(config, &in_config);
        fields.extend(section(credentials, name));
        let mut take = |field: &str| fields.remove(field);
        Profile {
            access_key_id: take("aws_access_key_id"),
            secret_access_key: take("aws_secret_access_key"),
            session_token: take("aws_session_token"),
            region: take("region"),
            endpoint_url: take("endpoint_url"),
        }
    }
}

fn section(text: &str, wanted: &str) -> HashMap<String, String> {
    let mut inside = false;
    let mut fields = HashMap::new();
    for line in text.lines() {
        // An indented line belongs to a nested setting (`s3 =`), of which none is read.
        let nested = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.starts_with(['#', ';']) || line.is_empty() {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            inside = name.split_whitespace().eq(wanted.split_whitespace());
        } else if let (true, false, Some((field, value))) = (inside, nested, line.split_once('=')) {
            fields.insert(field.trim().to_ascii_lowercase(), value.trim().to_string());
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_from_its_own_sections() {
        let credentials = "# keys\n[default]\naws_access_key_id = A\naws_secret_access_key=B\n\n[lab]\n\
                           AWS_ACCESS_KEY_ID = C\naws_secret_access_key = D=/+\naws_session_token = E\n";
        let config = "[default]\nregion = eu-central-1\n[profile  lab]\nregion=us-west-2\n\
                      s3 =\n  endpoint_url = nested\nendpoint_url = http://127.0.0.1:9000\n";
        let lab = Profile::parse("lab", credentials, config);
        assert_eq!(lab.access_key_id.as_deref(), Some("C"));
        assert_eq!(lab.secret_access_key.as_deref(), Some("D=/+"));
        assert_eq!(lab.session_token.as_deref(), Some("E"));
        assert_eq!(lab.region.as_deref(), Some("us-west-2"));
        assert_eq!(lab.endpoint_url.as_deref(), Some("http://127.0.0.1:9000"));
        let default = Profile::parse("default", credentials, config);
        assert_eq!((default.access_key_id.as_deref(), default.session_token), (Some("A"), None));
        assert_eq!(default.region.as_deref(), Some("eu-central-1"));
        assert!(Profile::parse("none", credentials, config).access_key_id.is_none());
    }
}
