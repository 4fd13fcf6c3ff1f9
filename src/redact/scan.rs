//! Finds secrets in bytes that come in pieces, and takes them out.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::meta::{self, Regex};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, nfa::thompson};

use super::shapes::{Kind, Run, Shape, Tail};
use super::{MARKER, Redactor, forms};

/// Everything that is looked for. None where no engine can be built: then nothing is shown at all.
pub(super) struct Patterns(Option<Engine>);

struct Engine {
    /// Finds the next match.
    regex: Regex,
    /// Says whether a match may begin at a place and go on beyond the end.
    walk: DFA,
    /// By the pattern's number.
    kinds: Vec<Kind>,
    /// No match is longer, in bytes.
    longest: usize,
}

/// A secret in some text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub at: Range<usize>,
    /// What.
    pub kind: Kind,
}

impl Patterns {
    pub(super) fn of(secrets: &[Vec<u8>]) -> Self {
        let exact = secrets.iter().flat_map(|secret| forms::expressions(secret));
        let mut expressions: Vec<(String, Kind)> = exact.map(|one| (one, Kind::Exact)).collect();
        expressions.extend(Shape::all().map(|shape| (shape.expression().to_owned(), Kind::Shape(shape))));
        Self(Engine::build(expressions).ok())
    }

    pub(super) fn occur_in(&self, bytes: &[u8]) -> bool {
        self.0.as_ref().is_none_or(|engine| engine.regex.is_match(bytes))
    }

    pub(super) fn find(&self, bytes: &[u8]) -> Vec<Finding> {
        let Some(engine) = &self.0 else {
            let at = 0..bytes.len();
            return vec![Finding { at, kind: Kind::Exact }];
        };
        let mut found: Vec<Finding> = Vec::new();
        let mut from = 0;
        while let Some((at, kind)) = engine.next(bytes, from) {
            let secret = secret_in(bytes, &at, kind);
            // A shape may have another secret in it, before its own.
            from = if secret.start == at.start { at.end } else { at.start + 1 };
            let (Run::Ends(more) | Run::GoesOn(more)) = tail(kind).run(&bytes[secret.end..], true);
            let finding = Finding {
                at: secret.start..secret.end + more,
                kind,
            };
            if !found.contains(&finding) {
                found.push(finding);
            }
        }
        found
    }
}

fn tail(kind: Kind) -> Tail {
    match kind {
        Kind::Exact => Tail::None,
        Kind::Shape(shape) => shape.tail(),
    }
}

fn secret_in(bytes: &[u8], at: &Range<usize>, kind: Kind) -> Range<usize> {
    match kind {
        Kind::Exact => at.clone(),
        Kind::Shape(shape) => {
            let secret = shape.secret_in(&bytes[at.clone()]);
            at.start + secret.start..at.start + secret.end
        }
    }
}

impl Engine {
    fn build(expressions: Vec<(String, Kind)>) -> Result<Self, Box<dyn std::error::Error>> {
        let (expressions, kinds): (Vec<String>, Vec<Kind>) = expressions.into_iter().unzip();
        // A cut secret is an optional part in an optional part, for each byte of a piece.
        let syntax = syntax::Config::new().unicode(false).utf8(false).nest_limit(1000);
        let parsed = syntax::parse_many_with(&expressions, &syntax)?;
        let lengths = parsed.iter().map(|one| one.properties().maximum_len());
        let longest = lengths.collect::<Option<Vec<_>>>().ok_or("a pattern without a bound")?;
        let config = meta::Config::new()
            .utf8_empty(false)
            .nfa_size_limit(None)
            .onepass(false)
            .hybrid_cache_capacity(8 * 1024 * 1024);
        let regex = Regex::builder()
            .configure(config)
            .syntax(syntax)
            .build_many_from_hir(&parsed)?;
        let nfa = thompson::Compiler::new()
            .configure(
                thompson::Config::new()
                    .utf8(false)
                    .which_captures(thompson::WhichCaptures::None),
            )
            .build_many_from_hir(&parsed)?;
        let walk = DFA::builder()
            .configure(DFA::config().skip_cache_capacity_check(true))
            .build_from_nfa(nfa)?;
        Ok(Self {
            regex,
            walk,
            kinds,
            longest: longest.into_iter().max().unwrap_or(0),
        })
    }

    /// The first match that begins at `from` or later.
    fn next(&self, bytes: &[u8], from: usize) -> Option<(Range<usize>, Kind)> {
        let found = self.regex.search(&Input::new(bytes).range(from.min(bytes.len())..))?;
        Some((found.range(), self.kinds[found.pattern().as_usize()]))
    }

    /// The first place at which something may begin that more bytes decide.
    fn undecided(&self, bytes: &[u8], cache: &mut Cache) -> usize {
        let first = bytes.len().saturating_sub(self.longest);
        (first..bytes.len())
            .find(|at| self.goes_on(&bytes[*at..], cache))
            .unwrap_or(bytes.len())
    }

    fn goes_on(&self, bytes: &[u8], cache: &mut Cache) -> bool {
        let input = Input::new(bytes).anchored(Anchored::Yes);
        let Ok(mut state) = self.walk.start_state_forward(cache, &input) else {
            return true;
        };
        for byte in bytes {
            match self.walk.next_state(cache, state, *byte) {
                Ok(next) if next.is_dead() => return false,
                Ok(next) => state = next,
                Err(_) => return true,
            }
        }
        true
    }
}

/// Takes secrets out of bytes that are cut anywhere, in memory that the longest secret bounds.
pub struct Scrub {
    redactor: Redactor,
    patterns: Arc<Patterns>,
    cache: Option<Cache>,
    /// What is not decided yet.
    carry: Vec<u8>,
    /// How much of it belongs to what was taken out before.
    covered: usize,
    /// How that goes on after it.
    tail: Option<Tail>,
}

impl fmt::Debug for Scrub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrub")
    }
}

impl Scrub {
    pub(super) fn new(redactor: Redactor) -> Self {
        let patterns = redactor.patterns();
        Self {
            cache: patterns.0.as_ref().map(|engine| engine.walk.create_cache()),
            redactor,
            patterns,
            carry: Vec::new(),
            covered: 0,
            tail: None,
        }
    }

    /// Takes bytes in, and gives out what is decided.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let newest = self.redactor.patterns();
        if !Arc::ptr_eq(&newest, &self.patterns) {
            self.cache = newest.0.as_ref().map(|engine| engine.walk.create_cache());
            self.patterns = newest;
        }
        self.carry.extend_from_slice(bytes);
        self.advance(false)
    }

    /// Gives out the rest. What comes after is another text.
    pub fn finish(&mut self) -> Vec<u8> {
        self.advance(true)
    }

    fn advance(&mut self, last: bool) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.carry);
        let patterns = Arc::clone(&self.patterns);
        let (Some(engine), Some(cache)) = (&patterns.0, &mut self.cache) else {
            return if last { MARKER.into() } else { Vec::new() };
        };
        let mut hold = if last {
            bytes.len()
        } else {
            engine.undecided(&bytes, cache)
        };
        let mut out = Vec::with_capacity(bytes.len());
        // Everything before this place is written, or was taken out.
        let mut covered = self.covered;
        let mut open = self.tail;
        run(&mut open, &bytes, &mut covered, last);
        let mut matches = Vec::new();
        let mut from = 0;
        while let Some((at, kind)) = engine.next(&bytes, from).filter(|(at, _)| at.start < hold) {
            // From the next byte, not from the match's end: what overlaps is taken out as a whole.
            from = at.start + 1;
            matches.push((secret_in(&bytes, &at, kind), at.start, kind));
        }
        // The secret of a shape may begin long after its match, behind another secret.
        matches.sort_by_key(|(secret, ..)| secret.start);
        for (index, (secret, _, kind)) in matches.iter().enumerate() {
            // Nothing is given out that is not decided; and what stays here is found again from where its match begins.
            let wait = || {
                matches[index..]
                    .iter()
                    .map(|(_, begin, _)| *begin)
                    .min()
                    .unwrap_or(hold)
            };
            if secret.start >= hold {
                hold = wait();
                break;
            }
            if secret.end > covered {
                let end = match escape_around(&bytes, covered, secret.end, last) {
                    None => secret.end,
                    Some((_, Some(end))) => end,
                    Some((_, None)) => {
                        hold = wait();
                        break;
                    }
                };
                if secret.start >= covered {
                    let cut = escape_around(&bytes, covered, secret.start, last);
                    let start = cut.map_or(secret.start, |(begin, _)| begin);
                    out.extend_from_slice(&bytes[covered..start]);
                    out.extend_from_slice(MARKER.as_bytes());
                }
                covered = end;
            }
            let mut tail = Some(tail(*kind)).filter(|tail| *tail != Tail::None);
            let mut end = secret.end;
            run(&mut tail, &bytes, &mut end, last);
            covered = covered.max(end);
            open = open.or(tail);
        }
        if last {
            out.extend_from_slice(&bytes[covered..]);
            (self.covered, self.tail) = (0, None);
            return out;
        }
        let keep = if open.is_some() || hold < covered {
            hold.min(covered)
        } else {
            let keep = escape_around(&bytes, covered, hold, last).map_or(hold, |(begin, _)| begin);
            out.extend_from_slice(&bytes[covered..keep]);
            keep
        };
        self.covered = covered.saturating_sub(keep);
        self.tail = open;
        self.carry = bytes[keep..].to_vec();
        out
    }
}

/// Lets a tail go on from `end`; none is left where it ends.
fn run(tail: &mut Option<Tail>, bytes: &[u8], end: &mut usize, last: bool) {
    if let Some(open) = *tail {
        match open.run(&bytes[*end..], last) {
            Run::Ends(more) => {
                *end += more;
                *tail = None;
            }
            Run::GoesOn(more) => *end += more,
        }
    }
}

/// How many bytes the escape of a JSON string has that begins here with a backslash; 1 where it is none, and nothing
/// where the bytes end too soon to tell.
pub(super) fn unit(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => {
            let first = match code(&bytes[2..]) {
                Code::Is(first) => first,
                Code::None => return Some(1),
                Code::CutOff => return None,
            };
            if !(0xd800..0xdc00).contains(&first) {
                return Some(6);
            }
            // One half of a pair alone is no text.
            let rest = &bytes[6..];
            if rest.len() < 2 {
                return if br"\u".starts_with(rest) { None } else { Some(6) };
            }
            if !rest.starts_with(br"\u") {
                return Some(6);
            }
            match code(&rest[2..]) {
                Code::Is(0xdc00..=0xdfff) => Some(12),
                Code::Is(_) | Code::None => Some(6),
                Code::CutOff => None,
            }
        }
        _ => Some(1),
    }
}

/// What follows `\u`.
enum Code {
    Is(u32),
    /// Something else than four hexadecimal digits.
    None,
    /// The bytes end too soon to tell.
    CutOff,
}

fn code(bytes: &[u8]) -> Code {
    let digits = &bytes[..bytes.len().min(4)];
    let value = digits.iter().try_fold(0, |code, digit| {
        char::from(*digit).to_digit(16).map(|digit| code * 16 + digit)
    });
    match value {
        None => Code::None,
        Some(_) if digits.len() < 4 => Code::CutOff,
        Some(value) => Code::Is(value),
    }
}

/// The escape of a JSON string that a place is within, if it is: where it begins and, if enough bytes are there to tell,
/// where it ends. `from` is a place between two escapes.
fn escape_around(bytes: &[u8], from: usize, place: usize, last: bool) -> Option<(usize, Option<usize>)> {
    let mut at = from;
    while let Some(next) = bytes.get(at..place)?.iter().position(|byte| *byte == b'\\') {
        let begin = at + next;
        let length = match unit(&bytes[begin..]) {
            None if !last => return Some((begin, None)),
            // Text that ends within an escape. The first half of a pair is whole.
            None => {
                if bytes.len() - begin >= 6 {
                    6
                } else {
                    1
                }
            }
            Some(length) => length,
        };
        if begin + length > place {
            return Some((begin, Some(begin + length)));
        }
        at = begin + length;
    }
    None
}
