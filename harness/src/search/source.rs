//! Where a search's inputs come from.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::trial::Recipe;
use crate::strategy::Dice;

/// Gives a search its inputs, one for each number.
///
/// The next input may depend on what earlier ones came to, by the corpus alone: so a search that is started again goes on as
/// it would have.
pub(crate) trait Source: Send {
    /// The input of this number, from 0; `None` when there is no more.
    fn input(&mut self, number: u64, corpus: &Corpus) -> Option<Input>;

    /// How many there are, where that is known.
    fn total(&self) -> Option<u64> {
        None
    }
}

/// An input, and the number of the one that it was made from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Input {
    /// How it comes about.
    pub(crate) recipe: Recipe,
    /// Which of the corpus was changed.
    pub(crate) from: Option<u64>,
}

/// The inputs that reached something new, and what has been reached. It grows with the marks, not with the runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Corpus {
    /// By the order in which they were found: the input's number and its file.
    pub(crate) kept: Vec<(u64, Arc<str>)>,
    /// Every mark that was reached, and by which input first.
    pub(crate) marks: BTreeMap<String, u64>,
}

/// How inputs are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Guidance {
    /// Few features at a time, seldom all, and what reached something new is changed further
    Guided,
    /// A bit of everything each time, and nothing is learnt
    Plain,
}

/// Inputs drawn at random.
pub(crate) struct Random {
    /// Of the search.
    pub(crate) seed: u64,
    /// How they are drawn.
    pub(crate) guidance: Guidance,
    /// A file to start from.
    pub(crate) from: Option<Arc<str>>,
}

impl Source for Random {
    fn input(&mut self, number: u64, corpus: &Corpus) -> Option<Input> {
        let mut dice = Dice::new(self.seed, &format!("input {number}"));
        let seed = dice.any();
        let plain = self.guidance == Guidance::Plain;
        let everything = plain || self.from.is_none() && has_everything(number);
        let changes = !everything && !corpus.kept.is_empty() && dice.chance(50);
        let (recipe, from) = match &self.from {
            Some(file) if number == 0 => (Recipe::Given(Arc::clone(file)), None),
            Some(file) if !changes => (Recipe::Changed { seed, file: Arc::clone(file), other: None }, None),
            None if !changes => (Recipe::Drawn { seed, swarm: !everything }, None),
            _ => {
                let (from, file) = pick(&mut dice, corpus);
                let (_, other) = pick(&mut dice, corpus);
                (Recipe::Changed { seed, file, other: Some(other) }, Some(from))
            }
        };
        Some(Input { recipe, from })
    }
}

/// Whether this input has a bit of everything. A blunt bug shows in any of these, and one in which several things must meet soonest
/// in them; a subtle one is hidden by what else happens. So there are many at first, and few later.
fn has_everything(number: u64) -> bool {
    const FIRST: u64 = 64;
    number.is_multiple_of(if number < FIRST { 2 } else { 8 })
}

/// One that was kept: half of the time one of the latest, from where the next step is likely to be new too.
fn pick(dice: &mut Dice, corpus: &Corpus) -> (u64, Arc<str>) {
    const LATEST: usize = 16;
    let len = corpus.kept.len();
    let place = if dice.chance(50) { len - 1 - dice.place(len.min(LATEST)) } else { dice.place(len) };
    let (number, file) = &corpus.kept[place];
    (*number, Arc::clone(file))
}
