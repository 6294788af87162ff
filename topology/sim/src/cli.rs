//! The command line of the simulator.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use hearth_sim::explore::{self, cores, in_minutes};
use hearth_sim::mutant::Mutant;
use hearth_sim::run::{RunOptions, run as simulate};
use hearth_sim::scenario::Scenario;
use hearth_sim::scenario::shipped::{SHIPPED, shipped};
use hearth_sim::{draw, report};
use topology::World;

use crate::show;

/// Rehearse losses on virtual time: the production mesh, simulated, every run repeatable from its
/// seed
#[derive(Parser)]
#[command(name = "hearth sim", bin_name = "hearth sim", version)]
#[command(
    after_help = "Examples:\n  hearth sim run region-loss --report loss.html\n  hearth sim explore --minutes 5\n  hearth sim replay 7"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a scenario: a file, or the name of one that comes with hearth
    #[command(
        after_help = "Examples:\n  hearth sim run region-loss --seed 7 --report loss.html\n  hearth sim run my.toml --seeds 1..100 --jobs 2"
    )]
    Run(Run),
    /// Run one seed again and print its events, message by message
    #[command(
        after_help = "Examples:\n  hearth sim replay 7\n  hearth sim replay 7 --scenario region-loss"
    )]
    Replay(Replay),
    /// Run drawn scenarios, each from its own seed, for some minutes
    #[command(after_help = "Example:\n  hearth sim explore --minutes 5")]
    Explore(Explore),
    /// The scenarios that come with hearth
    #[command(after_help = "Example:\n  hearth sim list")]
    List,
}

#[derive(Args)]
struct Run {
    /// A file, or a name from `hearth sim list`
    scenario: String,
    /// The one seed to run
    #[arg(long, default_value_t = 1, conflicts_with = "seeds")]
    seed: u64,
    /// Run all of these seeds, such as 1..100
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    seeds: Option<RangeInclusive<u64>>,
    /// Runs at once [default: one for each core]
    #[arg(long)]
    jobs: Option<usize>,
    /// Write a report that any browser opens
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Print one JSON object for each run and nothing else on stdout
    #[arg(long)]
    json: bool,
    /// Break a step of the protocol on purpose: an invariant should then break
    #[arg(long, hide = true)]
    mutant: Option<Mutant>,
}

#[derive(Args)]
struct Replay {
    seed: u64,
    /// The scenario [default: the one that the seed draws]
    #[arg(long)]
    scenario: Option<String>,
    /// Print only events with this: a part of a name, such as r1/core/1, ann, or a message's last
    /// letters
    #[arg(long)]
    about: Option<String>,
    /// Write a report that any browser opens
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// As for `run`
    #[arg(long, hide = true)]
    mutant: Option<Mutant>,
}

#[derive(Args)]
struct Explore {
    /// Minutes to explore
    #[arg(long)]
    minutes: f64,
    /// The first seed; each run takes the next [default: from the clock]
    #[arg(long)]
    from: Option<u64>,
    /// Runs at once [default: one for each core]
    #[arg(long)]
    jobs: Option<usize>,
    /// Print one JSON object for each run and nothing else on stdout
    #[arg(long)]
    json: bool,
    /// As for `run`
    #[arg(long, hide = true)]
    mutant: Option<Mutant>,
}

/// Whether everything held.
///
/// # Errors
/// When something could not be run at all.
pub(crate) fn run(cli: Cli) -> anyhow::Result<bool> {
    match cli.verb {
        Verb::Run(options) => run_scenario(options),
        Verb::Replay(options) => replay(&options),
        Verb::Explore(options) => explore_drawn(&options),
        Verb::List => {
            for (name, _) in SHIPPED {
                let about = shipped(name).map(|scenario| scenario.about).unwrap_or_default();
                show::line(format_args!("{name:<20} {about}"));
            }
            Ok(true)
        }
    }
}

fn run_scenario(options: Run) -> anyhow::Result<bool> {
    let scenario = load(&options.scenario)?;
    Mutant::arm(options.mutant)?;
    let command = |seed: u64| format!("hearth sim run {} --seed {seed}", options.scenario);
    if let Some(seeds) = options.seeds {
        if options.report.is_some() {
            bail!("--report covers one run: use --seed instead of --seeds");
        }
        let count = seeds.end().saturating_sub(*seeds.start()).saturating_add(1);
        let bar = show::seeds_bar(Some(count), options.json);
        let (mutant, json) = (options.mutant, options.json);
        let scenario_of =
            move |seed| (scenario.clone(), RunOptions { seed, mutant, ..RunOptions::default() });
        let tally = explore::explore(
            seeds,
            options.jobs.unwrap_or_else(cores),
            None,
            scenario_of,
            |result, tally| {
                show::result(result, tally, &bar, json, &command);
                false
            },
        )?;
        show::tally(&tally, &bar, json);
        return Ok(tally.broken == 0);
    }
    let progress = Arc::new(AtomicU64::new(0));
    let bar = show::run_bar(&scenario, &progress, options.json);
    let run = RunOptions {
        seed: options.seed,
        mutant: options.mutant,
        progress: Some(progress),
        ..RunOptions::default()
    };
    let outcome = simulate(&scenario, &run);
    bar.finish();
    let outcome = outcome?;
    if let Some(file) = &options.report {
        write_report(file, &report::html(&outcome))?;
    }
    show::outcome(&outcome, options.json, &command(options.seed));
    Ok(outcome.held)
}

fn replay(options: &Replay) -> anyhow::Result<bool> {
    Mutant::arm(options.mutant)?;
    let (scenario, command) = match &options.scenario {
        Some(name) => {
            (load(name)?, format!("hearth sim replay {} --scenario {name}", options.seed))
        }
        None => (draw::of_seed(options.seed), format!("hearth sim replay {}", options.seed)),
    };
    let run =
        RunOptions { seed: options.seed, everything: true, mutant: options.mutant, progress: None };
    let outcome = simulate(&scenario, &run)?;
    show::timeline(&outcome, options.about.as_deref());
    show::outcome(&outcome, false, &command);
    if let Some(file) = &options.report {
        write_report(file, &report::html(&outcome))?;
    }
    Ok(outcome.held)
}

fn explore_drawn(options: &Explore) -> anyhow::Result<bool> {
    if !(options.minutes.is_finite() && options.minutes > 0.0) {
        bail!("--minutes must be more than 0");
    }
    let first = options.from.unwrap_or_else(by_the_clock);
    if !options.json {
        show::line(format_args!(
            "seeds from {first}; to repeat: hearth sim explore --minutes {} --from {first}",
            options.minutes
        ));
    }
    let bar = show::seeds_bar(None, options.json);
    let mutant = options.mutant;
    Mutant::arm(mutant)?;
    let scenario_of =
        move |seed| (draw::of_seed(seed), RunOptions { seed, mutant, ..RunOptions::default() });
    let command = |seed: u64| format!("hearth sim replay {seed}");
    let (jobs, deadline) = (options.jobs.unwrap_or_else(cores), Some(in_minutes(options.minutes)));
    let tally = explore::explore(first.., jobs, deadline, scenario_of, |result, tally| {
        show::result(result, tally, &bar, options.json, &command);
        false
    })?;
    show::tally(&tally, &bar, options.json);
    Ok(tally.broken == 0)
}

/// A scenario by name or from a file; a world by name or from a file beside it.
fn load(name: &str) -> anyhow::Result<Scenario> {
    if let Some(scenario) = shipped(name) {
        return Ok(scenario);
    }
    let path = Path::new(name);
    let text = std::fs::read_to_string(path).with_context(|| {
        let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
        format!(
            "{name} is neither a scenario that comes with hearth ({}) nor a file that can be read",
            names.join(", ")
        )
    })?;
    let beside = path.parent().unwrap_or(Path::new(".")).to_owned();
    let world = move |world: &str| match World::shipped(world) {
        Some(world) => Ok(world),
        None => {
            let file = beside.join(world);
            let text = std::fs::read_to_string(&file)
                .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
            World::parse(&text)
                .map_err(|errors| format!("{} is not a valid world:\n{errors}", file.display()))
        }
    };
    Scenario::parse(&text, &world)
        .map_err(|errors| anyhow::anyhow!("{name} is not a valid scenario:\n{errors}"))
}

fn write_report(file: &Path, html: &str) -> anyhow::Result<()> {
    std::fs::write(file, html).with_context(|| format!("cannot write {}", file.display()))
}

fn by_the_clock() -> u64 {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_secs() % 1_000_000_000 * 1_000
}

fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let parsed = text
        .split_once("..")
        .and_then(|(a, b)| Some((a.parse().ok()?, b.trim_start_matches('=').parse().ok()?)));
    match parsed {
        Some((a, b)) if a <= b => Ok(a..=b),
        _ => Err("write A..B, both included, such as 1..100".into()),
    }
}
