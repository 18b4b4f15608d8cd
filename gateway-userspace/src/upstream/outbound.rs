//! A request on its way to an endpoint.

use std::rc::Rc;

use http::Request;
use http::request::Parts;

use super::replay::RequestBody;

/// See the module.
#[derive(Debug)]
pub struct Outbound {
    /// In the version that it is to be sent in. Shared with whoever may have to send it again.
    pub head: Rc<Parts>,
    /// As this try has it.
    pub body: RequestBody,
}

impl Outbound {
    /// As hyper takes it.
    pub(super) fn into_request(self) -> Request<RequestBody> {
        Request::from_parts(Rc::unwrap_or_clone(self.head), self.body)
    }

    /// As hyper gives it back.
    pub(super) fn of(request: Request<RequestBody>) -> Self {
        let (head, body) = request.into_parts();
        Self { head: Rc::new(head), body }
    }
}
