//! The forms in which a secret may appear, as one regular expression.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// A secret of fewer bytes is looked for only as it is.
const ENCODED_FROM: usize = 8;
/// A longer secret is looked for piece by piece, so that the longest match, and what a stream holds back, stay bounded.
const PIECE: usize = 128;
/// Backslashes before an escaped character: JSON in JSON in JSON doubles them each time.
const BACKSLASHES: &str = r"\\{1,4}";

/// The expressions of a secret's pieces.
pub(super) fn expressions(secret: &[u8]) -> Vec<String> {
    if secret.len() < ENCODED_FROM {
        return vec![literal(secret)];
    }
    pieces(secret).into_iter().map(expression).collect()
}

/// Pieces of about the same length, cut between characters.
fn pieces(secret: &[u8]) -> Vec<&[u8]> {
    let number = secret.len().div_ceil(PIECE);
    let length = secret.len().div_ceil(number);
    let mut pieces = Vec::new();
    let mut rest = secret;
    while rest.len() > length {
        // A byte of the middle of a character is 0b10…
        let end = (length..rest.len())
            .find(|at| rest[*at] & 0xc0 != 0x80)
            .unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
    if rest.len() >= ENCODED_FROM || pieces.is_empty() {
        pieces.push(rest);
    } else if let Some(last) = pieces.last_mut() {
        *last = &secret[secret.len() - rest.len() - last.len()..];
    }
    pieces
}

fn expression(piece: &[u8]) -> String {
    let mut forms = vec![textual(piece), hexadecimal(piece)];
    forms.extend((0..3).map(|offset| base64(piece, offset)));
    forms.extend(truncated(piece));
    forms.join("|")
}

fn literal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, r"\x{byte:02x}");
        text
    })
}

/// A hexadecimal number in either case.
fn digits(hex: &str) -> String {
    hex.chars().fold(String::new(), |mut text, digit| {
        let _ = match digit {
            'a'..='f' => write!(text, "[{digit}{}]", digit.to_ascii_uppercase()),
            _ => write!(text, "{digit}"),
        };
        text
    })
}

/// Each character as it is or escaped, in any mixture.
fn textual(piece: &[u8]) -> String {
    let mut text = String::new();
    for chunk in piece.utf8_chunks() {
        for c in chunk.valid().chars() {
            let _ = write!(text, "(?:{})", character(c));
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "(?:{}|{})", literal(&[*byte]), percent(&[*byte]));
        }
    }
    text
}

fn character(c: char) -> String {
    let mut buffer = [0; 4];
    let bytes = c.encode_utf8(&mut buffer).as_bytes();
    let mut forms = vec![literal(bytes), percent(bytes)];
    let mut units = [0; 2];
    let escaped = c.encode_utf16(&mut units).iter().fold(String::new(), |mut text, unit| {
        let _ = write!(text, "{BACKSLASHES}u{}", digits(&format!("{unit:04x}")));
        text
    });
    forms.push(escaped);
    if c.is_ascii() {
        forms.push(format!("{BACKSLASHES}x{}", digits(&format!("{:02x}", bytes[0]))));
    }
    match c {
        '"' | '\'' | '/' | '\\' => forms.push(format!("{BACKSLASHES}{}", literal(bytes))),
        '\n' => forms.push(format!("{BACKSLASHES}n")),
        '\r' => forms.push(format!("{BACKSLASHES}r")),
        '\t' => forms.push(format!("{BACKSLASHES}t")),
        ' ' => forms.push(r"\+".to_owned()),
        _ => {}
    }
    forms.join("|")
}

/// URL-encoded, up to three times.
fn percent(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "%(?:25){{0,2}}{}", digits(&format!("{byte:02x}")));
        text
    })
}

fn hexadecimal(piece: &[u8]) -> String {
    digits(&hex::encode(piece))
}

/// What base64 makes of the piece where it begins at this offset of a group of three, without the characters at either
/// end that also depend on what is beside it.
fn base64(piece: &[u8], offset: usize) -> String {
    let mut bytes = vec![0; offset];
    bytes.extend_from_slice(piece);
    let encoded = STANDARD_NO_PAD.encode(&bytes);
    let whole = (8 * offset).div_ceil(6)..8 * bytes.len() / 6;
    encoded[whole].chars().fold(String::new(), |mut text, c| {
        match c {
            '+' => {
                let _ = write!(text, r"(?:[+\-]|%(?:25){{0,2}}2[bB]|{BACKSLASHES}u002[bB])");
            }
            '/' => {
                let _ = write!(text, r"(?:\\{{0,4}}/|_|%(?:25){{0,2}}2[fF]|{BACKSLASHES}u002[fF])");
            }
            c => text.push(c),
        }
        text
    })
}

/// Cut after its first bytes, as this program cuts what others say.
fn truncated(piece: &[u8]) -> Option<String> {
    let (first, rest) = piece.split_at_checked(ENCODED_FROM)?;
    let mut text = literal(first);
    for byte in rest {
        let _ = write!(text, "(?:{}", literal(&[*byte]));
    }
    text.push_str(&")?".repeat(rest.len()));
    text.push_str(&literal("…".as_bytes()));
    Some(text)
}
