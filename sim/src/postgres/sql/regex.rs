//! `regexp_replace`: the part of PostgreSQL's regular expressions that most patterns are made of.
//!
//! Literals, `.`, bracket expressions, `\d \s \w` and their opposites, groups, `|`, `^`, `$` and greedy quantifiers. Such an
//! expression takes the longest of the matches that begin first, so a set of states is all that is kept, one character at a
//! time. Whatever else PostgreSQL knows (non-greedy quantifiers, back references, lookaround, named classes) fails with
//! 0A000, and so do classes and case folding over text that is not ASCII, where the locale has a word to say.

use super::super::error::{PgError, SqlState};

/// One step of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Char(char),
    Any,
    Class { negated: bool, items: Vec<(char, char)> },
    Start,
    End,
    Split(usize, usize),
    Jump(usize),
    Match,
}

/// An expression, ready to be looked for.
#[derive(Debug)]
pub(super) struct Regex {
    steps: Vec<Step>,
    fold: bool,
    /// It has classes, or ignores case.
    ascii: bool,
}

enum Node {
    Empty,
    One(Step),
    All(Vec<Node>),
    Either(Vec<Node>),
    Repeat(Box<Node>, usize, Option<usize>),
}

/// As PostgreSQL's `DUPMAX`.
const MOST: usize = 255;
/// A machine is not to be larger; PostgreSQL has such a limit, too, elsewhere.
const STEPS: usize = 20_000;

fn invalid(why: &str) -> PgError {
    PgError::error(SqlState("2201B"), format!("invalid regular expression: {why}"))
}

fn unsupported(what: &str) -> PgError {
    PgError::unsupported(format!("{what} in regular expressions"))
}

struct Parser<'p> {
    rest: std::iter::Peekable<std::str::Chars<'p>>,
    depth: usize,
    classes: bool,
}

const DIGITS: &[(char, char)] = &[('0', '9')];
const SPACES: &[(char, char)] = &[(' ', ' '), ('\t', '\r')];
const WORDS: &[(char, char)] = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];

impl Parser<'_> {
    fn either(&mut self) -> Result<Node, PgError> {
        let mut branches = vec![self.branch()?];
        while self.rest.next_if_eq(&'|').is_some() {
            branches.push(self.branch()?);
        }
        Ok(if branches.len() == 1 { branches.remove(0) } else { Node::Either(branches) })
    }

    fn branch(&mut self) -> Result<Node, PgError> {
        let mut all = Vec::new();
        while let Some(next) = self.rest.peek() {
            match next {
                '|' => break,
                ')' if self.depth > 0 => break,
                _ => all.push(self.piece()?),
            }
        }
        Ok(if all.is_empty() { Node::Empty } else { Node::All(all) })
    }

    fn piece(&mut self) -> Result<Node, PgError> {
        let atom = match self.rest.next().expect("it was looked at") {
            '^' => return self.constraint(Step::Start),
            '$' => return self.constraint(Step::End),
            '.' => Node::One(Step::Any),
            '[' => Node::One(self.bracket()?),
            '\\' => Node::One(self.escape()?),
            '(' => {
                if self.rest.next_if_eq(&'?').is_some() && self.rest.next() != Some(':') {
                    return Err(unsupported("(?"));
                }
                self.depth += 1;
                let inner = self.either()?;
                self.depth -= 1;
                if self.rest.next() != Some(')') {
                    return Err(invalid("parentheses () not balanced"));
                }
                inner
            }
            ')' => return Err(invalid("parentheses () not balanced")),
            '*' | '+' | '?' => return Err(invalid("quantifier operand invalid")),
            '{' => return Err(unsupported("{ without an atom")),
            other => Node::One(Step::Char(other)),
        };
        let (least, most) = match self.rest.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => {
                self.rest.next();
                if !self.rest.peek().is_some_and(char::is_ascii_digit) {
                    return Err(unsupported("{ without a number"));
                }
                let bound = self.bound()?;
                return self.quantified(atom, bound);
            }
            _ => return Ok(atom),
        };
        self.rest.next();
        self.quantified(atom, (least, most))
    }

    fn constraint(&mut self, step: Step) -> Result<Node, PgError> {
        match self.rest.peek() {
            Some('*' | '+' | '?' | '{') => Err(invalid("quantifier operand invalid")),
            _ => Ok(Node::One(step)),
        }
    }

    fn quantified(&mut self, atom: Node, (least, most): (usize, Option<usize>)) -> Result<Node, PgError> {
        match self.rest.peek() {
            Some('?') => Err(unsupported("non-greedy quantifiers")),
            Some('*' | '+' | '{') => Err(invalid("quantifier operand invalid")),
            _ => Ok(Node::Repeat(Box::new(atom), least, most)),
        }
    }

    /// `m}`, `m,}` or `m,n}`
    fn bound(&mut self) -> Result<(usize, Option<usize>), PgError> {
        let text: String = std::iter::from_fn(|| self.rest.next_if(|next| *next != '}')).collect();
        if self.rest.next().is_none() {
            return Err(invalid("braces {} not balanced"));
        }
        let number = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = plain.then(|| text.parse::<usize>().ok()).flatten();
            number.filter(|number| *number <= MOST).ok_or_else(|| invalid("invalid repetition count(s)"))
        };
        let (least, most) = match text.split_once(',') {
            None => (number(&text)?, Some(number(&text)?)),
            Some((least, "")) => (number(least)?, None),
            Some((least, most)) => (number(least)?, Some(number(most)?)),
        };
        if most.is_some_and(|most| most < least) {
            return Err(invalid("invalid repetition count(s)"));
        }
        Ok((least, most))
    }

    fn class(&mut self, negated: bool, items: &[(char, char)]) -> Step {
        self.classes = true;
        Step::Class { negated, items: items.to_vec() }
    }

    fn escape(&mut self) -> Result<Step, PgError> {
        Ok(match self.rest.next() {
            None => return Err(invalid("invalid escape \\ sequence")),
            Some('d') => self.class(false, DIGITS),
            Some('D') => self.class(true, DIGITS),
            Some('s') => self.class(false, SPACES),
            Some('S') => self.class(true, SPACES),
            Some('w') => self.class(false, WORDS),
            Some('W') => self.class(true, WORDS),
            Some('n') => Step::Char('\n'),
            Some('r') => Step::Char('\r'),
            Some('t') => Step::Char('\t'),
            Some(other) if other.is_ascii_alphanumeric() => return Err(unsupported(&format!("\\{other}"))),
            Some(other) => Step::Char(other),
        })
    }

    fn bracket(&mut self) -> Result<Step, PgError> {
        let negated = self.rest.next_if_eq(&'^').is_some();
        let mut items: Vec<(char, char)> = Vec::new();
        let unbalanced = || invalid("brackets [] not balanced");
        loop {
            let low = match self.rest.next().ok_or_else(unbalanced)? {
                ']' if !items.is_empty() => break,
                '[' if matches!(self.rest.peek(), Some(':' | '.' | '=')) => return Err(unsupported("[: :]")),
                '\\' => match self.escape()? {
                    Step::Char(plain) => plain,
                    Step::Class { negated: false, items: class } => {
                        items.extend(class);
                        continue;
                    }
                    _ => return Err(unsupported("such an escape in []")),
                },
                plain => plain,
            };
            if self.rest.peek() != Some(&'-') {
                items.push((low, low));
                continue;
            }
            self.rest.next();
            match self.rest.next().ok_or_else(unbalanced)? {
                ']' => {
                    items.extend([(low, low), ('-', '-')]);
                    break;
                }
                '\\' | '[' => return Err(unsupported("such a range in []")),
                high if high < low => return Err(invalid("invalid character range")),
                high => items.push((low, high)),
            }
        }
        self.classes |= items.iter().any(|(low, high)| low != high);
        Ok(Step::Class { negated, items })
    }
}

impl Regex {
    /// Error: 2201B, or 0A000.
    pub(super) fn new(pattern: &str, fold: bool) -> Result<Regex, PgError> {
        if pattern.starts_with("***") || pattern.starts_with("(?") && !pattern.starts_with("(?:") {
            return Err(unsupported("directors and embedded options"));
        }
        let mut parser = Parser { rest: pattern.chars().peekable(), depth: 0, classes: false };
        let node = parser.either()?;
        let mut regex = Regex { steps: Vec::new(), fold, ascii: parser.classes || fold };
        regex.emit(&node)?;
        regex.steps.push(Step::Match);
        Ok(regex)
    }

    fn emit(&mut self, node: &Node) -> Result<(), PgError> {
        if self.steps.len() > STEPS {
            return Err(invalid("regular expression is too complex"));
        }
        match node {
            Node::Empty => {}
            Node::One(step) => self.steps.push(step.clone()),
            Node::All(nodes) => nodes.iter().try_for_each(|node| self.emit(node))?,
            Node::Either(nodes) => {
                let mut ends = Vec::new();
                for (index, node) in nodes.iter().enumerate() {
                    let split = self.steps.len();
                    if index + 1 < nodes.len() {
                        self.steps.push(Step::Split(split + 1, 0));
                    }
                    self.emit(node)?;
                    if index + 1 < nodes.len() {
                        ends.push(self.steps.len());
                        self.steps.push(Step::Jump(0));
                        self.steps[split] = Step::Split(split + 1, self.steps.len());
                    }
                }
                let end = self.steps.len();
                ends.into_iter().for_each(|at| self.steps[at] = Step::Jump(end));
            }
            Node::Repeat(node, least, most) => {
                (0..*least).try_for_each(|_| self.emit(node))?;
                match most {
                    None => {
                        let split = self.steps.len();
                        self.steps.push(Step::Match);
                        self.emit(node)?;
                        self.steps.push(Step::Jump(split));
                        self.steps[split] = Step::Split(split + 1, self.steps.len());
                    }
                    Some(most) => {
                        let mut splits = Vec::new();
                        for _ in *least..*most {
                            splits.push(self.steps.len());
                            self.steps.push(Step::Match);
                            self.emit(node)?;
                        }
                        let end = self.steps.len();
                        splits.into_iter().for_each(|at| self.steps[at] = Step::Split(at + 1, end));
                    }
                }
            }
        }
        Ok(())
    }

    /// The longest of the matches that begin first, at `from` or later: its start and end.
    fn find(&self, text: &[char], from: usize) -> Option<(usize, usize)> {
        (from..=text.len()).find_map(|start| self.longest(text, start).map(|end| (start, end)))
    }

    fn longest(&self, text: &[char], start: usize) -> Option<usize> {
        let mut found = None;
        let mut states = vec![0];
        for at in start..=text.len() {
            let mut reached = vec![false; self.steps.len()];
            let mut open = states;
            let mut next = Vec::new();
            while let Some(state) = open.pop() {
                if std::mem::replace(&mut reached[state], true) {
                    continue;
                }
                match &self.steps[state] {
                    Step::Match => found = Some(at),
                    Step::Jump(to) => open.push(*to),
                    Step::Split(one, other) => open.extend([*one, *other]),
                    Step::Start if at == 0 => open.push(state + 1),
                    Step::End if at == text.len() => open.push(state + 1),
                    Step::Start | Step::End => {}
                    step => {
                        if text.get(at).is_some_and(|next| self.takes(step, *next)) {
                            next.push(state + 1);
                        }
                    }
                }
            }
            if next.is_empty() {
                break;
            }
            states = next;
        }
        found
    }

    fn takes(&self, step: &Step, next: char) -> bool {
        let cases = |next: char| [next, next.to_ascii_lowercase(), next.to_ascii_uppercase()];
        let candidates = if self.fold { cases(next) } else { [next; 3] };
        match step {
            Step::Any => true,
            Step::Char(wanted) => candidates.contains(wanted),
            Step::Class { negated, items } => {
                let within = |next: &char| items.iter().any(|(low, high)| (low..=high).contains(&next));
                candidates.iter().any(within) != *negated
            }
            _ => false,
        }
    }
}

/// `regexp_replace(text, pattern, replacement, flags)`
pub(super) fn replace(text: &str, pattern: &str, replacement: &str, flags: &str) -> Result<String, PgError> {
    let (mut all, mut fold, mut other) = (false, false, false);
    for flag in flags.chars() {
        match flag {
            'g' => all = true,
            'i' => fold = true,
            'c' => fold = false,
            'b' | 'e' | 'm' | 'n' | 'p' | 'q' | 's' | 't' | 'w' | 'x' => other = true,
            _ => {
                let message = format!("invalid regular expression option: \"{flag}\"");
                return Err(PgError::error(SqlState::INVALID_PARAMETER_VALUE, message));
            }
        }
    }
    if other {
        return Err(unsupported("such options"));
    }
    let regex = Regex::new(pattern, fold)?;
    if regex.ascii && !(text.is_ascii() && pattern.is_ascii()) {
        return Err(unsupported("classes and case folding of text that is not ASCII"));
    }
    let text: Vec<char> = text.chars().collect();
    let (mut out, mut copied, mut from) = (String::new(), 0, 0);
    while from <= text.len() {
        let Some((start, end)) = regex.find(&text, from) else { break };
        out.extend(&text[copied..start]);
        substitute(&mut out, replacement, &text[start..end])?;
        copied = end;
        if !all {
            break;
        }
        from = if start == end { end + 1 } else { end };
    }
    out.extend(&text[copied.min(text.len())..]);
    Ok(out)
}

/// A replacement's `\&` is the match, `\\` a backslash.
fn substitute(out: &mut String, replacement: &str, matched: &[char]) -> Result<(), PgError> {
    let mut rest = replacement.chars();
    while let Some(next) = rest.next() {
        if next != '\\' {
            out.push(next);
            continue;
        }
        match rest.clone().next() {
            Some('&') => {
                rest.next();
                out.extend(matched);
            }
            Some('\\') => {
                rest.next();
                out.push('\\');
            }
            Some('1'..='9') => return Err(PgError::unsupported("groups in the replacement of regexp_replace")),
            _ => out.push('\\'),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &str, pattern: &str, flags: &str) -> String {
        replace(text, pattern, "<\\&>", flags).expect("it is supported")
    }

    #[test]
    fn the_first_and_longest_match_is_replaced() {
        assert_eq!(replaced("foobar", "fo|foo", ""), "<foo>bar");
        assert_eq!(replaced("abab", "(ab)+", ""), "<abab>");
        assert_eq!(replaced("abc", "x*", "g"), "<>a<>b<>c<>");
        assert_eq!(replaced("aXbXc", "x", "gi"), "a<X>b<X>c");
        assert_eq!(replaced("foo 12 bar", r"\w+\s[0-9]{2}$", ""), "foo 12 bar");
        assert_eq!(replaced("foo 12 bar", r"^\w+\s[0-9]{1,2}", ""), "<foo 12> bar");
        assert_eq!(replaced("a-b]c", "[]-]", "g"), "a<->b<]>c");
    }

    #[test]
    fn what_is_not_known_is_not_pretended() {
        for pattern in ["a*?", r"\1", r"\y", "[[:alpha:]]", "(?=a)", "(?i)a"] {
            let error = replace("a", pattern, "", "").expect_err(pattern);
            assert_eq!(error.code, SqlState::FEATURE_NOT_SUPPORTED, "{pattern}");
        }
        for pattern in ["(", "a)", "[a", "*a", "a{2,1}", "b-[z-a]"] {
            let error = replace("a", pattern, "", "").expect_err(pattern);
            assert_eq!(error.code, SqlState("2201B"), "{pattern}");
        }
        assert_eq!(replace("ä", r"\w", "", "").expect_err("not ASCII").code, SqlState::FEATURE_NOT_SUPPORTED);
    }
}
