//! The few bytes of HTTP that reading vpcsim's inspection endpoints takes.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Fetches JSON from `http://host:port` + `path`.
///
/// # Errors
/// When the server does not answer 200 with JSON.
pub fn get_json(endpoint: &str, path: &str) -> Result<Value> {
    let body = request(endpoint, "GET", path, "")?;
    serde_json::from_str(&body).with_context(|| format!("read the answer of {path} as JSON"))
}

/// Sends a request and returns the answer's body.
///
/// # Errors
/// When the server does not answer 200.
pub fn request(endpoint: &str, method: &str, path: &str, body: &str) -> Result<String> {
    let host =
        endpoint.strip_prefix("http://").context("the endpoint is no http:// address")?.trim_end_matches('/');
    let mut stream = TcpStream::connect(host).with_context(|| format!("connect to {host}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // HTTP/1.0: the answer ends with the connection and is never chunked.
    let length = body.len();
    // What reads JSON does not look at these; the EC2 Query API wants a form, and a key that says whose call it is: the operator's.
    let form = "Content-Type: application/x-www-form-urlencoded\r\n\
        Authorization: AWS4-HMAC-SHA256 Credential=AKIAOPERATOR/20260101/eu-central-1/ec2/aws4_request";
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\n{form}\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("read {path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no end of headers")?;
    let status = head.split_whitespace().nth(1).unwrap_or("none");
    if status != "200" {
        bail!("{method} {path} answered {status}: {body}");
    }
    Ok(body.to_owned())
}

/// Posts a form to `/`, as clients of the EC2 Query API do; names and values must need no escaping. Returns the answer's body.
///
/// # Errors
/// When the server does not answer 200.
pub fn post_form(endpoint: &str, fields: &[(&str, &str)]) -> Result<String> {
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    request(endpoint, "POST", "/", &fields.join("&"))
}
