//! x
use hearth_sim::{draw, explore, run::RunOptions};
fn main() {
    let from: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
    let to: u64 = std::env::args().nth(2).unwrap().parse().unwrap();
    let mutant = std::env::args().nth(3).map(|m| <hearth_sim::mutant::Mutant as clap::ValueEnum>::from_str(&m, true).unwrap());
    let everything = std::env::var("ALL").is_ok();
    let tally = explore::explore(from..=to, 2, None, move |seed| (draw::of_seed(seed), RunOptions { seed, mutant, everything, ..RunOptions::default() }), |(seed, result), _| {
        match result {
            Ok(o) if o.held => { if everything { for e in &o.timeline { println!("{:>8} {:<14} {}", e.at_ms, e.who, e.what); } } }
            Ok(o) => {
                if everything { for e in &o.timeline { println!("{:>8} {:<14} {}", e.at_ms, e.who, e.what); } }
                let f = &o.broken[0];
                println!("seed {seed} {} BROKEN {}: {} (+{})", o.world, f.invariant, f.what.chars().take(400).collect::<String>(), o.broken.len() - 1);
                for f in &o.faults { println!("     {} {}..{}", f.what, f.from_ms, f.to_ms); }
            }
            Err(e) => println!("seed {seed} ERROR {}", format!("{e:#}").chars().take(600).collect::<String>()),
        }
        mutant.is_some() && !matches!(result, Ok(o) if o.held)
    }).unwrap();
    println!("{tally:?} speed {}", tally.speed());
}
