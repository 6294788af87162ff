//! Breadth-first search, so that the first violation found has a shortest trace. States are kept as
//! 128-bit fingerprints; parents are kept too, so that a trace can be told.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

/// What is searched.
pub(crate) trait Model {
    type State: Clone + Hash;
    type Action: Copy + Debug;

    fn start(&self) -> Self::State;
    /// Every step that can be taken; a step may be a violation.
    fn steps(&self, state: &Self::State, found: &mut Vec<Step<Self::State, Self::Action>>);
    /// A state worth having reached: a search that never does has checked nothing.
    fn is_goal(&self, state: &Self::State) -> bool;
}

pub(crate) struct Step<S, A> {
    pub(crate) action: A,
    pub(crate) to: Result<S, String>,
}

#[derive(Debug)]
pub(crate) struct Violation<A> {
    pub(crate) what: String,
    /// From the start to the violation.
    pub(crate) trace: Vec<A>,
}

#[derive(Debug)]
pub(crate) struct Outcome<A> {
    pub(crate) states: usize,
    pub(crate) steps: u64,
    pub(crate) depth: usize,
    /// States for which [`Model::is_goal`].
    pub(crate) goals: usize,
    pub(crate) violation: Option<Violation<A>>,
}

/// Searches everything; stops at the first violation. Panics over `states_max`, for then the bounds
/// are wrong.
pub(crate) fn search<M: Model>(model: &M, states_max: usize) -> Outcome<M::Action> {
    let mut seen: HashSet<u128, BuildHasherDefault<Taken>> = HashSet::default();
    let mut told: Vec<(u32, Option<M::Action>)> = vec![(0, None)];
    let mut scratch = Vec::with_capacity(1024);
    let mut found = Vec::new();
    let (mut steps, mut depth, mut goals) = (0, 0, 0);
    let start = model.start();
    seen.insert(fingerprint(&start, &mut scratch));
    let mut level = vec![(start, 0u32)];
    while !level.is_empty() {
        let mut next = Vec::new();
        for (state, index) in level {
            goals += usize::from(model.is_goal(&state));
            model.steps(&state, &mut found);
            for step in found.drain(..) {
                steps += 1;
                match step.to {
                    Err(what) => {
                        let mut trace = trace(&told, index);
                        trace.push(step.action);
                        let violation = Some(Violation { what, trace });
                        return Outcome { states: seen.len(), steps, depth, goals, violation };
                    }
                    Ok(to) => {
                        if seen.insert(fingerprint(&to, &mut scratch)) {
                            told.push((index, Some(step.action)));
                            next.push((to, told.len() as u32 - 1));
                        }
                    }
                }
            }
            assert!(seen.len() <= states_max, "more than {states_max} states at depth {depth}");
        }
        level = next;
        depth += 1;
    }
    Outcome { states: seen.len(), steps, depth, goals, violation: None }
}

/// Whether from every state that can be reached one can be reached in which all is done. Ok: how
/// many states there are; otherwise a shortest trace into a state from which there is no way. A
/// violation on the way is one, too.
pub(crate) fn can_always_finish<M: Model>(
    model: &M,
    is_done: impl Fn(&M::State) -> bool,
    states_max: usize,
) -> Result<usize, Violation<M::Action>> {
    let mut seen: HashMap<u128, u32, BuildHasherDefault<Taken>> = HashMap::default();
    let mut told: Vec<(u32, Option<M::Action>)> = vec![(0, None)];
    let mut from: Vec<Vec<u32>> = vec![Vec::new()];
    let (mut scratch, mut found, mut done) = (Vec::with_capacity(1024), Vec::new(), Vec::new());
    let start = model.start();
    seen.insert(fingerprint(&start, &mut scratch), 0);
    let mut queue = VecDeque::from([(start, 0u32)]);
    while let Some((state, index)) = queue.pop_front() {
        if is_done(&state) {
            done.push(index);
        }
        model.steps(&state, &mut found);
        for step in found.drain(..) {
            let to = step.to.map_err(|what| {
                let trace = trace(&told, index).into_iter().chain([step.action]).collect();
                Violation { what, trace }
            })?;
            let next = told.len() as u32;
            let there = *seen.entry(fingerprint(&to, &mut scratch)).or_insert(next);
            if there == next {
                told.push((index, Some(step.action)));
                from.push(Vec::new());
                queue.push_back((to, next));
            }
            from[there as usize].push(index);
        }
        assert!(told.len() <= states_max, "more than {states_max} states");
    }
    let mut hopeful = vec![false; told.len()];
    while let Some(index) = done.pop() {
        if !std::mem::replace(&mut hopeful[index as usize], true) {
            done.extend(&from[index as usize]);
        }
    }
    match hopeful.iter().position(|hopeful| !hopeful) {
        None => Ok(told.len()),
        Some(stuck) => Err(Violation {
            what: "from here there is no way to finish".into(),
            trace: trace(&told, stuck as u32),
        }),
    }
}

/// Walks at random from the start until nothing is left to do, for bounds too large to search:
/// returns how many steps were taken and how many walks reached a goal, or the first violation. The
/// same seed takes the same walks.
pub(crate) fn walk<M: Model>(
    model: &M,
    seed: u64,
    walks: usize,
) -> (u64, usize, Option<Violation<M::Action>>) {
    let mut found = Vec::new();
    let (mut steps, mut goals) = (0u64, 0);
    for n in 0..walks as u64 {
        let mut state = model.start();
        let mut trace = Vec::new();
        let mut reached = false;
        // Late and repeated writes can go round for ever.
        while trace.len() < WALK_STEPS_MAX {
            model.steps(&state, &mut found);
            if found.is_empty() {
                break;
            }
            let dice = xxh3_64_with_seed(&steps.to_le_bytes(), seed ^ n.rotate_left(32));
            let step = found.swap_remove(dice as usize % found.len());
            found.clear();
            steps += 1;
            trace.push(step.action);
            match step.to {
                Ok(to) => state = to,
                Err(what) => return (steps, goals, Some(Violation { what, trace })),
            }
            reached |= model.is_goal(&state);
        }
        goals += usize::from(reached);
    }
    (steps, goals, None)
}

const WALK_STEPS_MAX: usize = 200;

fn trace<A: Copy>(told: &[(u32, Option<A>)], mut index: u32) -> Vec<A> {
    let mut trace = Vec::new();
    while let (parent, Some(action)) = told[index as usize] {
        trace.push(action);
        index = parent;
    }
    trace.reverse();
    trace
}

fn fingerprint<S: Hash>(state: &S, scratch: &mut Vec<u8>) -> u128 {
    scratch.clear();
    let mut bytes = AsBytes(scratch);
    state.hash(&mut bytes);
    xxh3_128(scratch)
}

/// Collects what is hashed, to hash it at once and to 128 bits.
struct AsBytes<'a>(&'a mut Vec<u8>);

impl Hasher for AsBytes<'_> {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn finish(&self) -> u64 {
        unreachable!("the bytes are what is wanted")
    }
}

/// A fingerprint is as good a hash as any.
#[derive(Default)]
pub(crate) struct Taken(u64);

impl Hasher for Taken {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are kept")
    }
    fn write_u128(&mut self, fingerprint: u128) {
        self.0 = fingerprint as u64;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}
