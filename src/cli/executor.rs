//! `--executor` and what belongs to it: where cells are computed.

use clap::{Args, ValueEnum};

use super::Failure;
use crate::{
    digest::Digest,
    pipeline::Pipeline,
    plan::{Plan, State},
    run::{
        InProcess, Launched,
        cluster::{Profile, Queue, SavedPlan, Slurm, Standing, shell_logs, standings},
    },
    store::{Store, source::SourceIndex},
};

/// How ranks of one cell are started where they are to be processes.
#[derive(Debug, Args)]
pub struct RanksArguments {
    /// Start the ranks of a cell as processes with these words: "mpirun -n {ranks} scaleshot-mpi"
    /// [default: $SCALESHOT_RANKS_WITH, or else threads of this process]
    #[arg(long, value_name = "WORDS")]
    pub ranks_with: Option<String>,
}

impl RanksArguments {
    pub fn executor(&self) -> Result<Box<dyn crate::run::Executor>, Failure> {
        let named = std::env::var("SCALESHOT_RANKS_WITH").ok().filter(|v| !v.is_empty());
        match self.ranks_with.clone().or(named) {
            Some(words) => Ok(Box::new(Launched::new(&words)?)),
            None => Ok(Box::new(InProcess)),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Executor {
    /// This process
    #[default]
    Local,
    /// Jobs of a Slurm cluster
    Slurm,
}

#[derive(Debug, Args)]
pub struct ExecutorArguments {
    /// Where cells are computed
    #[arg(long, value_enum, default_value_t)]
    pub executor: Executor,
    /// What jobs ask for: a file, or a name in ~/.config/scaleshot/profiles [default: $SCALESHOT_PROFILE]
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,
}

impl ExecutorArguments {
    pub fn profile(&self) -> Result<Profile, Failure> {
        let named = std::env::var("SCALESHOT_PROFILE").ok().filter(|v| !v.is_empty());
        match self.profile.clone().or(named) {
            Some(name) => Ok(Profile::open(&name)?),
            None => Ok(Profile::default()),
        }
    }

    /// Refuses what no job could use, before anything is looked at.
    pub fn slurm(&self, store: &Store) -> Result<Profile, Failure> {
        let profile = self.profile()?;
        if store.url().starts_with("memory:") {
            let hint = "name a shared folder or a bucket with --store".to_string();
            return Err(Failure::words("jobs cannot see a store in the memory of this process", Some(hint)));
        }
        Slurm::present().map_err(|e| {
            Failure::words(
                format!("--executor slurm: {e}"),
                Some("load Slurm's module or run on a login node; without a queue, leave --executor out".into()),
            )
        })?;
        Ok(profile)
    }
}

/// Slurm as a plan's jobs use it.
pub fn queue(plan: &Digest, store: &Store, profile: &Profile) -> Box<dyn Queue> {
    let here = std::env::current_dir().unwrap_or_default();
    let logs = shell_logs(store, profile, plan).unwrap_or_else(|| here.join("scaleshot-jobs").join(plan.hex()));
    // A folder that cannot be made is named by the first job that is to write there.
    let _ = std::fs::create_dir_all(&logs);
    let program = std::env::current_exe().map_or("scaleshot".into(), |p| p.display().to_string());
    Box::new(Slurm {
        plan: *plan,
        profile: profile.clone(),
        store: store.folder().map_or_else(|| store.url().to_string(), |f| f.display().to_string()),
        program,
        logs,
        folder: here,
    })
}

/// How the cells stand that are not fresh, in the queue and in the store.
pub fn stand(
    pipeline: &Pipeline,
    store: &Store,
    sources: &SourceIndex,
    plan: &Plan,
    profile: &Profile,
) -> Result<Vec<Standing>, Failure> {
    let digest = SavedPlan::digest_of(pipeline, sources)?;
    let open: Vec<usize> = plan.cells.iter().filter(|c| c.state != State::Fresh).map(|c| c.index).collect();
    Ok(standings(pipeline, store, &digest, &*queue(&digest, store, profile), &open)?)
}
