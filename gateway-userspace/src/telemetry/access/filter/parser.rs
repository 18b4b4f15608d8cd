//! From words to an expression whose kinds fit.

use regex::RegexBuilder;

use super::attribute::{Attribute, Map};
use super::expression::{Comparison, Expression, Kind, Part, Value};
use super::lexer::{Token, tokens};
use crate::notation::{duration, re2};

/// How deep brackets and negations may go.
const MAX_DEPTH: usize = 64;
/// Bytes that a compiled regular expression may have.
const MAX_REGEX: usize = 1 << 20;

const COMPARISONS: &[(&str, Comparison)] = &[
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Less),
    ("<=", Comparison::AtMost),
    (">", Comparison::Greater),
    (">=", Comparison::AtLeast),
];

pub(super) fn parse(written: &str) -> Result<Expression, String> {
    let mut parser = Parser { tokens: tokens(written)?, at: 0, depth: 0, end: written.len() };
    let (expression, kind) = parser.or()?;
    if let Some((at, token)) = parser.tokens.get(parser.at) {
        return Err(format!("column {}: {} is not expected", at + 1, shown(token)));
    }
    match kind {
        Kind::Truth => Ok(expression),
        _ => Err(format!("it is {kind}, not true or false")),
    }
}

type Typed = (Expression, Kind);

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
    /// Behind the last byte.
    end: usize,
}

fn shown(token: &Token) -> String {
    match token {
        Token::Name(name) => format!("`{name}`"),
        Token::Text(text) => format!("the text '{text}'"),
        Token::Number(number) => format!("`{number}`"),
        Token::Sign(sign) => format!("`{sign}`"),
    }
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    /// Takes a sign if it comes next.
    fn eat(&mut self, sign: &str) -> bool {
        let is_next = matches!(self.peek(), Some(Token::Sign(next)) if *next == sign);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.eat(sign) { Ok(()) } else { Err(self.wrong(&format!("expected `{sign}`"))) }
    }

    fn wrong(&self, what: &str) -> String {
        let column = self.tokens.get(self.at).map_or(self.end, |(at, _)| *at) + 1;
        format!("column {column}: {what}")
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        if self.depth == MAX_DEPTH {
            return Err(self.wrong("it goes too deep"));
        }
        self.depth += 1;
        let outcome = read(self);
        self.depth -= 1;
        outcome
    }

    fn or(&mut self) -> Result<Typed, String> {
        self.chain("||", Self::and, Expression::Or)
    }

    fn and(&mut self) -> Result<Typed, String> {
        self.chain("&&", Self::relation, Expression::And)
    }

    fn chain(
        &mut self,
        sign: &str,
        operand: fn(&mut Self) -> Result<Typed, String>,
        join: fn(Box<Expression>, Box<Expression>) -> Expression,
    ) -> Result<Typed, String> {
        let mut left = operand(self)?;
        while self.eat(sign) {
            let right = operand(self)?;
            for (_, kind) in [&left, &right] {
                if *kind != Kind::Truth {
                    return Err(self.wrong(&format!("a side of `{sign}` is {kind}")));
                }
            }
            left = (join(Box::new(left.0), Box::new(right.0)), Kind::Truth);
        }
        Ok(left)
    }

    fn relation(&mut self) -> Result<Typed, String> {
        // `'x' in request.headers` asks for a key.
        if let (Some(Token::Text(key)), Some((_, Token::Name(word)))) =
            (self.peek(), self.tokens.get(self.at + 1))
            && word == "in"
            && !matches!(self.tokens.get(self.at + 2), Some((_, Token::Sign("["))))
        {
            let key = key.clone();
            self.at += 2;
            return self.key_in(&key);
        }
        let left = self.unary()?;
        if matches!(self.peek(), Some(Token::Name(word)) if word == "in") {
            self.at += 1;
            return self.listed(left);
        }
        let Some(comparison) = COMPARISONS.iter().find(|(sign, _)| self.peek() == Some(&Token::Sign(sign)))
        else {
            return Ok(left);
        };
        self.at += 1;
        let right = self.unary()?;
        self.fits(left.1, right.1)?;
        let is_order = !matches!(comparison.1, Comparison::Equal | Comparison::NotEqual);
        if is_order && left.1 == Kind::Truth {
            return Err(self.wrong("true or false cannot be ordered"));
        }
        let compared = Expression::Compare(comparison.1, Box::new(left.0), Box::new(right.0));
        Ok((compared, Kind::Truth))
    }

    fn fits(&self, one: Kind, other: Kind) -> Result<(), String> {
        if one == other {
            return Ok(());
        }
        Err(self.wrong(&format!("{one} cannot be compared with {other}")))
    }

    fn key_in(&mut self, key: &str) -> Result<Typed, String> {
        let name = self.dotted()?;
        let map = Map::named(&name).ok_or_else(|| self.wrong(&format!("`{name}` is no map of headers")))?;
        Ok((Expression::Has(Attribute::header(map, key)), Kind::Truth))
    }

    fn listed(&mut self, (one, kind): Typed) -> Result<Typed, String> {
        if !self.eat("[") {
            return Err(self.wrong("expected a list"));
        }
        let mut list = Vec::new();
        while !self.eat("]") {
            let (item, of) = self.unary()?;
            self.fits(kind, of)?;
            list.push(item);
            if !self.eat(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok((Expression::In(Box::new(one), list), Kind::Truth))
    }

    fn unary(&mut self) -> Result<Typed, String> {
        if self.eat("!") {
            let (inner, kind) = self.deeper(Self::unary)?;
            if kind != Kind::Truth {
                return Err(self.wrong(&format!("`!` of {kind}")));
            }
            return Ok((Expression::Not(Box::new(inner)), Kind::Truth));
        }
        if self.eat("-") {
            return match self.peek() {
                Some(Token::Number(number)) => {
                    let number = -*number;
                    self.at += 1;
                    Ok((Expression::Literal(Value::Number(number)), Kind::Number))
                }
                _ => Err(self.wrong("expected a number")),
            };
        }
        let mut value = self.primary()?;
        while self.eat(".") {
            value = self.method(value)?;
        }
        Ok(value)
    }

    fn primary(&mut self) -> Result<Typed, String> {
        match self.peek().cloned() {
            Some(Token::Number(number)) => {
                self.at += 1;
                Ok((Expression::Literal(Value::Number(number)), Kind::Number))
            }
            Some(Token::Text(text)) => {
                self.at += 1;
                Ok((Expression::Literal(Value::Text(text.into())), Kind::Text))
            }
            Some(Token::Sign("(")) => {
                self.at += 1;
                let inner = self.deeper(Self::or)?;
                self.expect(")")?;
                Ok(inner)
            }
            Some(Token::Name(name)) => self.named(&name),
            _ => Err(self.wrong("expected a value")),
        }
    }

    fn named(&mut self, name: &str) -> Result<Typed, String> {
        if matches!(name, "true" | "false") {
            self.at += 1;
            return Ok((Expression::Literal(Value::Truth(name == "true")), Kind::Truth));
        }
        if matches!(self.tokens.get(self.at + 1), Some((_, Token::Sign("(")))) {
            self.at += 2;
            let outcome = self.function(name)?;
            self.expect(")")?;
            return Ok(outcome);
        }
        let (attribute, kind) = self.attribute()?;
        Ok((Expression::Attribute(attribute), kind))
    }

    fn function(&mut self, name: &str) -> Result<Typed, String> {
        match name {
            "has" => Ok((Expression::Has(self.attribute()?.0), Kind::Truth)),
            "size" => {
                let (text, kind) = self.deeper(Self::or)?;
                self.fits(Kind::Text, kind)?;
                Ok((Expression::Size(Box::new(text)), Kind::Number))
            }
            "duration" => {
                let written = self.literal("duration")?;
                let duration = duration::parse(&written).ok_or_else(|| {
                    self.wrong(&format!("'{written}' is no duration such as '1.5s' or '20ms'"))
                })?;
                Ok((Expression::Literal(Value::Duration(duration)), Kind::Duration))
            }
            _ => Err(self.wrong(&format!("unknown function `{name}`"))),
        }
    }

    fn literal(&mut self, function: &str) -> Result<String, String> {
        match self.peek().cloned() {
            Some(Token::Text(text)) => {
                self.at += 1;
                Ok(text)
            }
            _ => Err(self.wrong(&format!("`{function}` takes a text in quotes"))),
        }
    }

    /// Names joined by dots, as long as no call follows.
    fn dotted(&mut self) -> Result<String, String> {
        let Some(Token::Name(first)) = self.peek().cloned() else {
            return Err(self.wrong("expected an attribute"));
        };
        self.at += 1;
        let mut name = first;
        while let [(_, Token::Sign(".")), (_, Token::Name(next)), rest @ ..] = &self.tokens[self.at..]
            && !matches!(rest.first(), Some((_, Token::Sign("("))))
        {
            name = format!("{name}.{next}");
            self.at += 2;
        }
        Ok(name)
    }

    fn attribute(&mut self) -> Result<(Attribute, Kind), String> {
        let name = self.dotted()?;
        if let Some(map) = Map::named(&name) {
            if !self.eat("[") {
                return Err(self.wrong(&format!("{name} is a map: name a header, as in {name}['x']")));
            }
            let key = self.literal(&name)?;
            self.expect("]")?;
            return Ok((Attribute::header(map, &key), Kind::Text));
        }
        let found = Attribute::named(&name);
        found.ok_or_else(|| self.wrong(&format!("unknown attribute `{name}`")))
    }

    /// `.startsWith('x')` and the like, behind the dot.
    fn method(&mut self, (whole, kind): Typed) -> Result<Typed, String> {
        let Some(Token::Name(name)) = self.peek().cloned() else {
            return Err(self.wrong("expected a function"));
        };
        self.at += 1;
        let part = match name.as_str() {
            "startsWith" => Some(Part::Start),
            "endsWith" => Some(Part::End),
            "contains" => Some(Part::Anywhere),
            "matches" => None,
            _ => return Err(self.wrong(&format!("unknown function `{name}`"))),
        };
        if kind != Kind::Text {
            return Err(self.wrong(&format!("`{name}` of {kind}")));
        }
        self.expect("(")?;
        let outcome = if let Some(part) = part {
            let (of, kind) = self.deeper(Self::or)?;
            self.fits(Kind::Text, kind)?;
            Expression::Part(part, Box::new(whole), Box::new(of))
        } else {
            let written = self.literal("matches")?;
            let regex = RegexBuilder::new(&re2::translated(&written)).size_limit(MAX_REGEX).build();
            let regex = regex.map_err(|error| self.wrong(&error.to_string()))?;
            Expression::Matches(Box::new(whole), regex)
        };
        self.expect(")")?;
        Ok((outcome, Kind::Truth))
    }
}
