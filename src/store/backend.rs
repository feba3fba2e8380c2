//! From the place of a store to its backend.
//!
//! | place | backend | credentials and settings |
//! |---|---|---|
//! | a folder, `file:///…` | the file system | none |
//! | `memory://` | this process | none |
//! | `s3://bucket/path` | Amazon S3 and what speaks it | `AWS_*` (`AWS_ENDPOINT_URL` for another server), `~/.aws`, the machine's role |
//! | `gs://bucket/path` | Google Cloud Storage | `GOOGLE_*` (`GOOGLE_APPLICATION_CREDENTIALS`), `STORAGE_EMULATOR_HOST` |
//! | `az://container/path` | Azure Blob Storage | `AZURE_*` (`AZURE_STORAGE_CONNECTION_STRING`), `AZURE_STORAGE_USE_EMULATOR` |
//! | `http://…`, `https://…` | a web server, to read only | none |
//!
//! Credentials come from the environment and the usual files, never from the place: it is printed in messages.
//! Endpoints over plain HTTP are used where the environment names one, and not otherwise.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};

use object_store::{
    BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GcpCredential, GoogleCloudStorageBuilder, GoogleConfigKey},
    http::HttpBuilder,
    local::LocalFileSystem,
    memory::InMemory,
    path::Path as Name,
    prefix::PrefixStore,
};

use super::{profile::Profile, secrets::Secrets};
use crate::error::{Error, Result};

/// What a place leads to.
pub struct Backend {
    pub store: Arc<dyn ObjectStore>,
    /// The root of a folder store, with symlinks resolved.
    pub folder: Option<PathBuf>,
    /// Reached over the network, so that every request counts and its futures need a runtime.
    pub remote: bool,
    pub read_only: bool,
    /// Asks once and no more: a web server that cannot list says so with an error that passes for a busy one's.
    pub lister: Option<Arc<dyn ObjectStore>>,
    pub secrets: Secrets,
}

/// Drives connections and timers of every store over the network in this process.
pub static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("store-io")
        .enable_all()
        .build()
        .unwrap_or_else(|e| panic!("bug: no runtime for the network: {e}"))
});

/// Tries again after what may pass (connections refused or cut, 429, 5xx), waiting 0.1 s, then twice as long
/// each time up to 10 s.
const RETRIES: usize = 8;
const RETRY_FOR: Duration = Duration::from_secs(120);

/// Of connections: a transfer may take long, a silence may not.
const LIMITS: &[(ClientConfigKey, &str)] = &[
    (ClientConfigKey::ConnectTimeout, "10 seconds"),
    (ClientConfigKey::ReadTimeout, "60 seconds"),
    (ClientConfigKey::Timeout, "3600 seconds"),
];

const SCHEMES: &str = "a store is a folder, file:///…, memory://, s3://, gs://, az:// or https://";

impl Backend {
    pub fn open(place: &str) -> Result<Self> {
        match place.split_once("://") {
            None => folder(place, place),
            Some(("file", path)) => folder(place, path),
            Some(("memory", _)) => Ok(Backend {
                store: Arc::new(InMemory::new()),
                folder: None,
                remote: false,
                read_only: false,
                lister: None,
                secrets: Secrets::default(),
            }),
            Some((scheme, rest)) => network(place, scheme, rest),
        }
    }
}

fn folder(place: &str, path: &str) -> Result<Backend> {
    if path.is_empty() {
        return Err(Error::store("the place of the store is empty").with_hint("name a folder: --store .scaleshot"));
    }
    let path = Path::new(path);
    if path.is_file() {
        return Err(Error::store(format!("{place} is a file, and a store is a folder")));
    }
    std::fs::create_dir_all(path).map_err(Error::io(path))?;
    let root = path.canonicalize().map_err(Error::io(path))?;
    let store = LocalFileSystem::new_with_prefix(&root).map_err(|e| Error::store(format!("{place}: {e}")))?;
    Ok(Backend {
        store: Arc::new(store),
        folder: Some(root),
        remote: false,
        read_only: false,
        lister: None,
        secrets: Secrets::default(),
    })
}

fn network(place: &str, scheme: &str, rest: &str) -> Result<Backend> {
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') || rest.contains(['?', '#']) {
        let shown = format!("{scheme}://{}", rest.rsplit('@').next().unwrap_or_default());
        let shown = shown.split(['?', '#']).next().unwrap_or_default();
        return Err(Error::store(format!("{shown}: a place holds no user, password, query or fragment"))
            .with_hint("places are printed; put credentials into the environment (AWS_…, GOOGLE_…, AZURE_…)"));
    }
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(Error::store(format!("{place}: no bucket, container or host is named")).with_hint(SCHEMES));
    }
    let mut secrets = Secrets::from_env();
    let built = match scheme {
        "s3" | "s3a" => s3(bucket, &mut secrets),
        "gs" => google(bucket),
        "az" | "azure" | "abfs" | "abfss" => azure(bucket, &mut secrets),
        "http" | "https" => web(place, retries()),
        _ => return Err(Error::store(format!("{place}: no backend for {scheme}://")).with_hint(SCHEMES)),
    };
    let read_only = scheme.starts_with("http");
    let unusable = |e: object_store::Error| {
        Error::store(format!("{place}: {}", secrets.redact(&e.to_string())))
            .with_hint("the credentials or settings in the environment cannot be used as they are")
    };
    let store = built.map_err(unusable)?;
    let once = RetryConfig { max_retries: 0, ..retries() };
    let lister = read_only.then(|| web(place, once).map_err(unusable)).transpose()?;
    let prefix = Name::parse(path.trim_matches('/')).map_err(|e| Error::store(format!("{place}: {e}")))?;
    let store: Arc<dyn ObjectStore> =
        if read_only || prefix.as_ref().is_empty() { store } else { Arc::new(PrefixStore::new(store, prefix)) };
    Ok(Backend { store, folder: None, remote: true, read_only, lister, secrets })
}

type Built = object_store::Result<Arc<dyn ObjectStore>>;

fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

fn retries() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(10), base: 2.0 };
    RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_FOR }
}

/// Limits that the environment does not set itself (`AWS_READ_TIMEOUT`, …), and plain HTTP where asked for.
fn limits(prefix: &str, endpoint: Option<&str>) -> Vec<(ClientConfigKey, String)> {
    let unset = |key: &ClientConfigKey| set(&format!("{prefix}_{}", key.as_ref().to_ascii_uppercase())).is_none();
    let mut limits: Vec<_> =
        LIMITS.iter().filter(|(key, _)| unset(key)).map(|(key, value)| (*key, value.to_string())).collect();
    if endpoint.is_some_and(|e| e.starts_with("http://")) {
        limits.push((ClientConfigKey::AllowHttp, "true".into()));
    }
    limits
}

fn s3(bucket: &str, secrets: &mut Secrets) -> Built {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retries());
    let profile = Profile::from_files();
    let elsewhere = ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"];
    if set("AWS_ACCESS_KEY_ID").is_none() && elsewhere.iter().all(|name| set(name).is_none()) {
        let keys = [
            (AmazonS3ConfigKey::AccessKeyId, profile.access_key_id),
            (AmazonS3ConfigKey::SecretAccessKey, profile.secret_access_key),
            (AmazonS3ConfigKey::Token, profile.session_token),
        ];
        for (key, value) in keys {
            if let Some(value) = value {
                secrets.add(&value);
                builder = builder.with_config(key, value);
            }
        }
    }
    if let (None, None, Some(region)) = (set("AWS_REGION"), set("AWS_DEFAULT_REGION"), profile.region) {
        builder = builder.with_region(region);
    }
    let named = set("AWS_ENDPOINT_URL_S3").or_else(|| set("AWS_ENDPOINT_URL")).or_else(|| set("AWS_ENDPOINT"));
    let endpoint = match (named, profile.endpoint_url) {
        (None, Some(endpoint)) => {
            builder = builder.with_endpoint(endpoint.clone());
            Some(endpoint)
        }
        (named, _) => named,
    };
    for (key, value) in limits("AWS", endpoint.as_deref()) {
        builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
    }
    Ok(Arc::new(builder.build()?))
}

fn google(bucket: &str) -> Built {
    let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).with_retry(retries());
    let emulator = set("STORAGE_EMULATOR_HOST").map(|h| if h.contains("://") { h } else { format!("http://{h}") });
    if let Some(url) = &emulator {
        // Writes ask for a token whatever SkipSignature says (object_store 0.14.2), so there is an empty one.
        let nobody = StaticCredentialProvider::new(GcpCredential { bearer: String::new() });
        builder = builder
            .with_base_url(url.trim_end_matches('/'))
            .with_config(GoogleConfigKey::SkipSignature, "true")
            .with_credentials(Arc::new(nobody));
    }
    for (key, value) in limits("GOOGLE", emulator.or_else(|| set("GOOGLE_BASE_URL")).as_deref()) {
        builder = builder.with_config(GoogleConfigKey::Client(key), value);
    }
    Ok(Arc::new(builder.build()?))
}

fn azure(container: &str, secrets: &mut Secrets) -> Built {
    let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(container).with_retry(retries());
    let mut endpoint = set("AZURE_STORAGE_ENDPOINT").or_else(|| set("AZURE_ENDPOINT"));
    for field in set("AZURE_STORAGE_CONNECTION_STRING").unwrap_or_default().split(';') {
        let Some((name, value)) = field.split_once('=') else { continue };
        let key = match name {
            "AccountName" => AzureConfigKey::AccountName,
            "AccountKey" => AzureConfigKey::AccessKey,
            "SharedAccessSignature" => AzureConfigKey::SasKey,
            "UseDevelopmentStorage" => AzureConfigKey::UseEmulator,
            "BlobEndpoint" => {
                endpoint = Some(value.into());
                AzureConfigKey::Endpoint
            }
            _ => continue,
        };
        if matches!(key, AzureConfigKey::AccessKey | AzureConfigKey::SasKey) {
            secrets.add(value);
        }
        builder = builder.with_config(key, value);
    }
    for (key, value) in limits("AZURE", endpoint.as_deref()) {
        builder = builder.with_config(AzureConfigKey::Client(key), value);
    }
    Ok(Arc::new(builder.build()?))
}

fn web(place: &str, retries: RetryConfig) -> Built {
    let mut options = ClientOptions::new();
    for (key, value) in limits("HTTP", Some(place)) {
        options = options.with_config(key, value);
    }
    let url = format!("{}/", place.trim_end_matches('/'));
    Ok(Arc::new(HttpBuilder::new().with_url(url).with_client_options(options).with_retry(retries).build()?))
}
