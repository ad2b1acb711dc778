//! What must hold at the end.

use std::time::Duration;

use indexmap::IndexMap;

/// What must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Expect {
    /// The end of the fault phase: faults end, no actor arrives any more.
    pub until: Duration,
    /// How long the healing phase may take before it is judged. Default 2 minutes.
    pub healing: Duration,
    /// Bounds given to invariants: `"recovery within 1s of server-up"`.
    pub bounds: Vec<Bound>,
    /// Invariants that are excused here, and why.
    pub excuses: Vec<Excuse>,
    /// Known bugs of published pools. Strict: they must show.
    pub known: Vec<Known>,
    /// What the story itself violates. Strict: each must show with every seed.
    pub violations: Vec<Declared>,
    /// Error texts that must show.
    pub errors: Vec<ErrorCheck>,
    /// Statements run as superuser at the end, with the value they must return.
    pub sql: Vec<SqlCheck>,
    /// What a pool must be able to do for this scenario to make sense.
    pub needs: Vec<String>,
    /// Bounds on figures: `errors.timeout = "0"`, `peak_connections = "<= 20"`.
    pub figures: IndexMap<String, Comparison>,
    /// How much longer than in virtual time a round trip may take: no file says it, a world in real time does.
    pub lateness: Duration,
}

impl Expect {
    /// Nothing but an end of the faults and of the healing.
    #[must_use]
    pub fn ending(until: Duration, healing: Duration) -> Expect {
        Expect {
            until,
            healing,
            bounds: Vec::new(),
            excuses: Vec::new(),
            known: Vec::new(),
            violations: Vec::new(),
            errors: Vec::new(),
            sql: Vec::new(),
            needs: Vec::new(),
            figures: IndexMap::new(),
            lateness: Duration::ZERO,
        }
    }
}

/// A bound of an invariant.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// The invariant's name.
    pub invariant: String,
    /// Its value.
    pub value: BoundValue,
}

/// A bound's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoundValue {
    /// `within 1s`
    Within(Duration),
    /// `at most 3`
    AtMost(u64),
}

/// An invariant that is excused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excuse {
    /// The invariant's name.
    pub invariant: String,
    /// Only for this pool.
    pub pool: Option<String>,
    /// Why.
    pub why: String,
}

/// A known bug of a published pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The pool.
    pub pool: String,
    /// The versions that have it, as Cargo writes requirements.
    pub versions: String,
    /// The invariant it violates.
    pub violates: String,
    /// Where it is described.
    pub link: String,
}

/// An invariant that the story violates, by the application's doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The invariant's name.
    pub invariant: String,
    /// Only with this pool.
    pub pool: Option<String>,
    /// What the application does.
    pub because: String,
}

/// A text that must be in an error.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorCheck {
    /// The text, or a part of it.
    pub text: String,
    /// How often. `None`: at least once.
    pub count: Option<Comparison>,
    /// When it came first, since the start of the run.
    pub first: Option<Comparison>,
}

/// A statement checked at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlCheck {
    /// The query: one row, one column.
    pub query: String,
    /// Its value as text.
    pub equals: String,
}

/// A comparison with a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// How.
    pub operator: Operator,
    /// With what; durations in seconds, shares from 0 to 1.
    pub value: f64,
    /// What the file's number was.
    pub unit: FigureUnit,
}

impl Comparison {
    /// Whether a figure is as it should be. A duration is given in seconds.
    #[must_use]
    pub fn holds(&self, figure: f64) -> bool {
        match self.operator {
            Operator::Equal => figure == self.value,
            Operator::AtMost => figure <= self.value,
            Operator::AtLeast => figure >= self.value,
            Operator::Below => figure < self.value,
            Operator::Above => figure > self.value,
        }
    }
}

/// What the number of a [`Comparison`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FigureUnit {
    /// `20`
    Count,
    /// `2s`: seconds.
    Seconds,
    /// `95%`: a share from 0 to 1.
    Share,
}

/// How a figure is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they say what they are")]
pub enum Operator {
    Equal,
    AtMost,
    AtLeast,
    Below,
    Above,
}
