//! Cursors of DECLARE, and how FETCH and MOVE go over their rows. After `DoPortalRunFetch` and `PortalRunSelect` in
//! `pquery.c`.

use std::sync::Arc;

use super::super::error::{PgError, SqlState};
use super::plan::{Select, Source};
use super::result::Column;
use super::value::Value;

/// As a count: all rows that are left.
pub(super) const ALL: i64 = i64::MAX;

/// Where FETCH and MOVE go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Forward(i64),
    Backward(i64),
    Absolute(i64),
    Relative(i64),
}

/// Whether a cursor can go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backward {
    Yes,
    No,
    /// Declared without SCROLL and NO SCROLL: its plan decides, which nobody here knows.
    Unknown,
}

/// A cursor of DECLARE: its rows were read then, and what it fails with behind them.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    pub(super) columns: Arc<[Column]>,
    pub(super) hold: bool,
    /// Declared in the transaction that runs.
    pub(super) fresh: bool,
    rows: Vec<Vec<Value>>,
    fails: Option<Box<PgError>>,
    backward: Backward,
    /// The row it is on, counted from 1.
    at: usize,
    at_start: bool,
    at_end: bool,
}

type Fetched<T> = Result<T, Box<PgError>>;

impl Cursor {
    pub(super) fn new(
        columns: Arc<[Column]>,
        rows: Vec<Vec<Value>>,
        fails: Option<Box<PgError>>,
        backward: Backward,
        hold: bool,
    ) -> Cursor {
        Cursor { columns, hold, fresh: true, rows, fails, backward, at: 0, at_start: true, at_end: false }
    }

    /// The rows of a FETCH, in its order.
    pub(super) fn fetch(&mut self, direction: Direction) -> Fetched<Vec<Vec<Value>>> {
        let places = self.places(direction, false)?;
        Ok(places.into_iter().map(|at| self.rows[at].clone()).collect())
    }

    /// The count of a MOVE.
    pub(super) fn skip(&mut self, direction: Direction) -> Fetched<usize> {
        let (forward, count) = match direction {
            Direction::Forward(count) | Direction::Relative(count @ 0) => (true, count),
            Direction::Backward(count) => (false, count),
            _ => return Ok(self.places(direction, true)?.len()),
        };
        if count == 0 {
            return Ok(usize::from(!self.at_start && !self.at_end));
        }
        if !forward && count == ALL {
            let over = self.at.saturating_sub(usize::from(self.at > 0 && !self.at_end));
            self.rewind()?;
            return Ok(over);
        }
        Ok(self.places(direction, true)?.len())
    }

    /// The places of the rows that a command returns, after it has gone there.
    fn places(&mut self, direction: Direction, moving: bool) -> Fetched<Vec<usize>> {
        let (forward, count) = match direction {
            Direction::Absolute(0) => {
                self.rewind()?;
                return Ok(Vec::new());
            }
            Direction::Absolute(count) if count > 0 => {
                let (count, at) = (count, i64::try_from(self.at).unwrap_or(ALL));
                // Counts from the nearer end, as a sequential scan would.
                if count - 1 <= at / 2 {
                    self.rewind()?;
                    self.run(true, count - 1)?;
                } else {
                    let at = at + i64::from(self.at_end);
                    if count <= at {
                        self.run(false, at - count + 1)?;
                    } else {
                        self.run(true, count - at - 1)?;
                    }
                }
                (true, 1)
            }
            Direction::Absolute(count) => {
                self.run(true, ALL)?;
                self.run(false, count.saturating_neg() - 1)?;
                (false, 1)
            }
            Direction::Relative(count) if count > 0 => {
                self.run(true, count - 1)?;
                (true, 1)
            }
            Direction::Relative(count) if count < 0 => {
                self.run(false, count.saturating_neg() - 1)?;
                (false, 1)
            }
            Direction::Relative(_) => (true, 0),
            Direction::Forward(count) => (count >= 0, count.saturating_abs()),
            Direction::Backward(count) => (count < 0, count.saturating_abs()),
        };
        if count == 0 && !moving {
            // The row it is on once more.
            if self.at_start || self.at_end {
                return Ok(Vec::new());
            }
            self.run(false, 1)?;
            return self.run(true, 1);
        }
        self.run(forward, count)
    }

    /// `PortalRunSelect`
    fn run(&mut self, forward: bool, count: i64) -> Fetched<Vec<usize>> {
        if !forward {
            self.may_go_back()?;
        }
        if count <= 0 || (forward && self.at_end) || (!forward && self.at_start) {
            return Ok(Vec::new());
        }
        let wanted = if count == ALL { usize::MAX } else { usize::try_from(count).unwrap_or(usize::MAX) };
        let (places, all): (Vec<usize>, bool) = if forward {
            let left = self.rows.len() - self.at;
            if wanted > left
                && let Some(error) = self.fails.take()
            {
                return Err(error);
            }
            ((self.at..self.at + wanted.min(left)).collect(), wanted > left)
        } else {
            let before = if self.at_end { self.at } else { self.at.saturating_sub(1) };
            ((before - wanted.min(before)..before).rev().collect(), wanted > before)
        };
        let passed = places.len();
        if forward {
            self.at_start &= passed == 0;
            self.at_end |= all;
            self.at += passed;
        } else {
            if passed > 0 && self.at_end {
                self.at_end = false;
                self.at += 1;
            }
            if all {
                self.at_start = true;
                self.at = 0;
            } else {
                self.at -= passed;
            }
        }
        Ok(places)
    }

    /// `DoPortalRewind`
    fn rewind(&mut self) -> Fetched<()> {
        if self.at_start && !self.at_end {
            return Ok(());
        }
        self.may_go_back()?;
        self.at_start = true;
        self.at_end = false;
        self.at = 0;
        Ok(())
    }

    fn may_go_back(&self) -> Fetched<()> {
        match self.backward {
            Backward::Yes => Ok(()),
            Backward::No => Err(Box::new(
                PgError::error(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "cursor can only scan forward")
                    .hint("Declare it with SCROLL option to enable backward scan."),
            )),
            Backward::Unknown => {
                Err(Box::new(PgError::unsupported("going back with a cursor that was declared without SCROLL")))
            }
        }
    }
}

/// What a query declared without SCROLL and NO SCROLL can do, where its plan is sure (`ExecSupportsBackwardScan`).
/// `constant`: it has no FROM.
pub(super) fn goes_back(select: &Select, constant: bool) -> Backward {
    if select.distinct || select.grouping.is_some() || !select.union.is_empty() {
        return Backward::Unknown;
    }
    if !select.sort.is_empty() {
        return Backward::Yes;
    }
    match &select.source {
        _ if constant => Backward::No,
        Source::Table { .. } if select.filter.is_none() => Backward::Yes,
        Source::Series { .. } | Source::Unnest(_) => Backward::Yes,
        _ => Backward::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(rows: i64, backward: Backward) -> Cursor {
        let rows = (1..=rows).map(|row| vec![Value::Int(row)]).collect();
        Cursor::new(Arc::from([]), rows, None, backward, false)
    }

    fn rows(cursor: &mut Cursor, direction: Direction) -> Vec<Value> {
        cursor.fetch(direction).expect("it may").into_iter().flatten().collect()
    }

    fn ints(values: &[i64]) -> Vec<Value> {
        values.iter().copied().map(Value::Int).collect()
    }

    #[test]
    fn the_ends_are_places_of_their_own() {
        let mut cursor = cursor(3, Backward::Yes);
        assert_eq!(rows(&mut cursor, Direction::Forward(3)), ints(&[1, 2, 3]));
        assert_eq!(rows(&mut cursor, Direction::Backward(1)), ints(&[2]), "it was on the last row");
        assert_eq!(rows(&mut cursor, Direction::Forward(ALL)), ints(&[3]));
        assert_eq!(rows(&mut cursor, Direction::Backward(1)), ints(&[3]), "it was behind it");
        assert_eq!(rows(&mut cursor, Direction::Backward(ALL)), ints(&[2, 1]));
        assert_eq!(rows(&mut cursor, Direction::Backward(1)), ints(&[]));
        assert_eq!(rows(&mut cursor, Direction::Forward(1)), ints(&[1]));
    }

    #[test]
    fn places_are_absolute_and_relative() {
        let mut cursor = cursor(9, Backward::Yes);
        assert_eq!(rows(&mut cursor, Direction::Absolute(5)), ints(&[5]));
        assert_eq!(rows(&mut cursor, Direction::Relative(2)), ints(&[7]));
        assert_eq!(rows(&mut cursor, Direction::Relative(-3)), ints(&[4]));
        assert_eq!(rows(&mut cursor, Direction::Relative(0)), ints(&[4]));
        assert_eq!(rows(&mut cursor, Direction::Absolute(-2)), ints(&[8]));
        assert_eq!(rows(&mut cursor, Direction::Absolute(1)), ints(&[1]));
        assert_eq!(rows(&mut cursor, Direction::Absolute(20)), ints(&[]));
        assert_eq!(rows(&mut cursor, Direction::Backward(1)), ints(&[9]));
    }

    #[test]
    fn move_counts() {
        let mut cursor = cursor(5, Backward::Yes);
        let mut count = |direction| cursor.skip(direction).expect("it may");
        assert_eq!(count(Direction::Forward(0)), 0);
        assert_eq!(count(Direction::Forward(2)), 2);
        assert_eq!(count(Direction::Forward(0)), 1);
        assert_eq!(count(Direction::Forward(ALL)), 3);
        assert_eq!(count(Direction::Backward(ALL)), 5);
        assert_eq!(count(Direction::Absolute(4)), 1);
        assert_eq!(count(Direction::Backward(ALL)), 3);
    }

    #[test]
    fn who_cannot_go_back_says_so() {
        let mut cursor = cursor(3, Backward::No);
        assert_eq!(rows(&mut cursor, Direction::Forward(1)), ints(&[1]));
        let error = cursor.fetch(Direction::Backward(1)).expect_err("it cannot");
        assert_eq!(error.message, "cursor can only scan forward");
    }
}
