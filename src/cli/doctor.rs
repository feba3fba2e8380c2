//! `scaleshot doctor`: what this machine, this build and this store can do.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{
    Outcome, layout,
    output::{Colour, print},
    session::StoreArguments,
};
use crate::{
    kind::KINDS,
    model::Precision,
    nn::{
        cuda::{Inventory, inventory},
        kernel,
    },
    run,
    store::Store,
};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub store: StoreArguments,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let machine = run::machine();
    let place = arguments.store.place().display().to_string();
    let store = probe(arguments);
    let features = features();
    let families = [Precision::F32, Precision::Bf16].map(|p| (p.name(), p.kernel_name()));
    let gpus = inventory();
    let kinds: Vec<&str> = KINDS.iter().map(|k| k.name()).collect();
    let text = if arguments.json {
        json!({
            "program": format!("scaleshot {}", env!("CARGO_PKG_VERSION")),
            "os": machine.os, "cpu": machine.cpu, "cores": machine.cores, "features": features,
            "kernels": kernel::name(), "kernel_note": kernel::note(),
            "precisions": std::collections::BTreeMap::from(families), "memory_bytes": machine.memory_bytes,
            "store": {"place": place, "writable": store.is_ok(), "problem": store.as_ref().err()},
            "gpus": gpus_json(&gpus),
            "kinds": kinds,
        })
        .to_string()
            + "\n"
    } else {
        let row = |name: &str, text: String| vec![name.to_string(), text];
        let mut rows = vec![
            row("program", format!("scaleshot {}", env!("CARGO_PKG_VERSION"))),
            row("system", machine.os.clone()),
            row("cpu", format!("{}, {} cores", machine.cpu, machine.cores)),
            row("features", if features.is_empty() { "none that kernels use".into() } else { features.join(" ") }),
            row("kernels", families.map(|(precision, family)| format!("{precision}: {family}")).join(", ")),
            row("", kernel::note().unwrap_or_default().to_string()),
            row("memory", layout::bytes(machine.memory_bytes)),
            row(
                "store",
                match &store {
                    Ok(()) => format!("{place} is writable"),
                    Err(e) => Colour::stdout().red(&format!("{place}: {e}")),
                },
            ),
            row("kinds", kinds.join(" ")),
        ];
        rows.extend(gpu_rows(&gpus).into_iter().map(|(name, text)| row(name, text)));
        rows.retain(|row| !row[1].is_empty());
        layout::columns(&rows, &[])
    };
    print(&text);
    Ok(if store.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// GPUs, the driver, and each library with what to do where it is missing.
fn gpu_rows(gpus: &Inventory) -> Vec<(&'static str, String)> {
    let mut rows: Vec<(&str, String)> = gpus
        .cards
        .iter()
        .map(|card| {
            let memory = layout::bytes(card.memory_bytes);
            ("gpu", format!("cuda:{} {}, {memory}, compute capability {}", card.ordinal, card.name, card.capability))
        })
        .collect();
    if let Some(problem) = &gpus.problem {
        rows.push(("gpu", format!("none: {problem}")));
    }
    if let Some(driver) = &gpus.driver {
        rows.push(("driver", format!("up to {driver}")));
    }
    for library in &gpus.libraries {
        let state = if library.found { "found".to_string() } else { format!("missing: {}", library.hint) };
        rows.push(("library", format!("{} ({}) {state}", library.name, library.what)));
    }
    rows
}

fn gpus_json(gpus: &Inventory) -> serde_json::Value {
    let cards = gpus.cards.iter().map(|card| {
        json!({
            "device": format!("cuda:{}", card.ordinal), "name": card.name, "capability": card.capability,
            "memory_bytes": card.memory_bytes,
        })
    });
    let libraries = gpus.libraries.iter().map(|library| {
        let missing = (!library.found).then_some(library.hint);
        json!({"name": library.name, "for": library.what, "found": library.found, "install": missing})
    });
    json!({
        "built": gpus.built, "driver": gpus.driver, "problem": gpus.problem, "cards": cards.collect::<Vec<_>>(),
        "libraries": libraries.collect::<Vec<_>>(),
    })
}

/// Opens the store and writes to it. A folder that does not exist is not made: its parent is tried instead.
fn probe(arguments: &Arguments) -> Result<(), String> {
    let place = &arguments.store.place();
    if !place.to_string_lossy().contains("://") && !place.exists() {
        let parent = place.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
        return tempfile::tempfile_in(parent).map(|_| ()).map_err(|e| format!("cannot be made: {e}"));
    }
    let written = Store::open(place).and_then(|store| {
        let had = store.blobs()?.len();
        let (digest, _) = store.put_bytes(b"scaleshot doctor\n")?;
        // A blob of these very bytes may have been there.
        if store.blobs()?.len() > had { store.delete_blob(&digest).map(|_| ()) } else { Ok(()) }
    });
    written.map_err(|e| e.to_string())
}

/// CPU features that kernels are chosen by.
fn features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let all = [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
            ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
            ("amx-bf16", amx_bf16()),
        ];
        all.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}

/// The library's own detection of AMX is not stable yet; Linux tells.
#[cfg(target_arch = "x86_64")]
fn amx_bf16() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|t| t.split_whitespace().any(|w| w == "amx_bf16"))
}
