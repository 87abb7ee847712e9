//! Faults that token requests meet, and the answers that they are made of.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Response, StatusCode};
use serde_json::{Map, Value};

/// What goes wrong with one token request.
#[derive(Clone)]
pub enum Fault {
    /// Answers this word for word; no token is issued or spent.
    Answer(Answer),
    /// Serves the request, then answers this instead, as a gateway would.
    AnswerAfterCommit(Answer),
    /// Closes the connection without an answer; no token is issued or spent.
    DropBeforeCommit,
    /// Serves the request, then closes the connection without an answer.
    DropAfterCommit,
    /// Serves the request, then closes the connection within the answer's body.
    CutAfterCommit,
    /// Stands still for so long, then serves the request, even when the client has left.
    Hang(Duration),
    /// Serves the request at once, and stands still for so long before it answers.
    HangAfterCommit(Duration),
    /// Serves the request and changes the answer, be it a grant or a refusal.
    Edit(Edit),
}

/// Changes an answer.
pub type Edit = Arc<dyn Fn(&mut Reply) + Send + Sync>;

impl Fault {
    /// A status with a JSON body; no token is issued or spent.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::Answer(Answer::json(status, body))
    }

    /// A status with an error page in HTML; no token is issued or spent.
    pub fn html(status: u16) -> Self {
        Self::Answer(Answer::html(status))
    }

    /// Changes whatever would be answered.
    pub fn edit(change: impl Fn(&mut Reply) + Send + Sync + 'static) -> Self {
        Self::Edit(Arc::new(change))
    }

    /// Sets one field of a successful answer.
    pub fn set(field: &str, value: Value) -> Self {
        let field = field.to_owned();
        Self::edit(move |reply| {
            if reply.granted {
                reply.json.insert(field.clone(), value.clone());
            }
        })
    }

    /// Leaves one field out of a successful answer.
    pub fn without(field: &str) -> Self {
        let field = field.to_owned();
        Self::edit(move |reply| {
            if reply.granted {
                reply.json.remove(&field);
            }
        })
    }

    /// Its name in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Answer(_) => "answer",
            Self::AnswerAfterCommit(_) => "answer-after-commit",
            Self::DropBeforeCommit => "drop-before-commit",
            Self::DropAfterCommit => "drop-after-commit",
            Self::CutAfterCommit => "cut-after-commit",
            Self::Hang(_) => "hang",
            Self::HangAfterCommit(_) => "hang-after-commit",
            Self::Edit(_) => "edit",
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An answer to give word for word.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Headers, in order; `Content-Type` is among them or absent.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A status with neither headers nor a body.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    /// A status with a JSON body.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::new(status).body("application/json", &body.to_string())
    }

    /// A status with an error page in HTML.
    pub fn html(status: u16) -> Self {
        let page = format!("<!DOCTYPE html><title>{status}</title><h1>{status}</h1>");
        Self::new(status).body("text/html; charset=utf-8", &page)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body and adds its type.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self.header(CONTENT_TYPE.as_str(), content_type)
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        response
            .body(Body::from(self.body))
            .unwrap_or_else(|error| {
                let mut response = Response::new(Body::from(format!("scripted answer: {error}")));
                *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
                response
            })
    }
}

/// An answer of the token endpoint before it is written down, for edits to change.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Whether it grants tokens; otherwise it holds an `error`. Changing this changes nothing.
    pub granted: bool,
    /// The HTTP status.
    pub status: u16,
    /// Headers beside `Content-Type`.
    pub headers: Vec<(String, String)>,
    /// The fields of the answer.
    pub json: Map<String, Value>,
    /// Writes the fields form-encoded instead of in JSON.
    pub form: bool,
}

impl Reply {
    pub(super) fn new(granted: bool, status: u16) -> Self {
        Self {
            granted,
            status,
            headers: vec![
                ("cache-control".to_owned(), "no-store".to_owned()),
                ("pragma".to_owned(), "no-cache".to_owned()),
            ],
            json: Map::new(),
            form: false,
        }
    }

    pub(super) fn set(&mut self, field: &str, value: impl Into<Value>) {
        self.json.insert(field.to_owned(), value.into());
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let (content_type, body) = if self.form {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            for (field, value) in &self.json {
                match value {
                    Value::String(text) => form.append_pair(field, text),
                    other => form.append_pair(field, &other.to_string()),
                };
            }
            ("application/x-www-form-urlencoded", form.finish())
        } else {
            ("application/json", Value::Object(self.json).to_string())
        };
        let answer = Answer {
            status: self.status,
            headers: self.headers,
            body: String::new(),
        };
        answer.body(content_type, &body).into_response()
    }
}
