//! Between the library and the methods: geth's words where the library has its own, the limit of
//! batches, batches of transactions, whose signatures are recovered together, and what a connection
//! holds of requests and answers.

use crate::connections::{Call, Connection};
use crate::doors::PoolDoor;
use crate::errors::{self, INTERNAL, METHOD_NOT_FOUND};
use crate::eth_transactions::decode_parameters;
use crate::server::Meter;
use jsonrpsee::core::middleware::{Batch, BatchEntry, Notification, RpcServiceT};
use jsonrpsee::core::server::{BatchResponseBuilder, MethodResponse, ResponsePayload};
use jsonrpsee::types::{ErrorObjectOwned, Id, Request};
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

const SEND: &str = "eth_sendRawTransaction";
const INVALID_REQUEST: i32 = -32600;

/// Marks a request that a web page made; such a page may be anybody's.
#[derive(Clone, Copy)]
pub(crate) struct FromWebPage;

/// Wraps the library's own service, for one connection.
#[derive(Clone)]
pub(crate) struct Geth<S> {
    inner: S,
    rules: Rules,
    connection: Arc<Connection>,
}

/// What the service needs beside the methods.
#[derive(Clone)]
pub(crate) struct Rules {
    /// Where transactions go.
    pub(crate) pool: Arc<dyn PoolDoor>,
    /// Requests in one batch.
    pub(crate) most: usize,
    /// The longest response, in bytes.
    pub(crate) longest: usize,
    /// Who counts the answers.
    pub(crate) meter: Option<Arc<dyn Meter>>,
}

impl Rules {
    fn count(&self, method: &str, response: &MethodResponse, since: Instant) {
        if let Some(meter) = &self.meter {
            meter.answered(method, response.as_error_code(), since.elapsed());
        }
    }
}

impl<S> Geth<S> {
    pub(crate) fn new(inner: S, rules: Rules, connection: Arc<Connection>) -> Self {
        Self { inner, rules, connection }
    }

    /// Decodes the transactions, hands them to the pool at once, and answers each.
    async fn send_all(&self, requests: &mut Vec<Request<'_>>) -> Vec<MethodResponse> {
        let mut transactions = Vec::with_capacity(requests.len());
        let mut answers: Vec<Option<ErrorObjectOwned>> = Vec::with_capacity(requests.len());
        for request in requests.iter() {
            let params = request.params.as_ref().map_or("[]", |params| params.get());
            match decode_parameters(params) {
                Ok(transaction) => {
                    transactions.push(transaction);
                    answers.push(None);
                }
                Err(error) => answers.push(Some(error)),
            }
        }
        let begun = Instant::now();
        let mut outcomes = self.rules.pool.submit_many(transactions).await.into_iter();
        let answer = |(request, refused): (Request<'_>, Option<ErrorObjectOwned>)| {
            let outcome = match refused {
                Some(error) => Err(error),
                None => {
                    let outcome = outcomes.next().expect("one outcome for each transaction");
                    outcome.map_err(errors::refused)
                }
            };
            let response = match outcome {
                Ok(hash) => {
                    let payload = ResponsePayload::success(hash);
                    MethodResponse::response(request.id, payload, self.rules.longest)
                }
                Err(error) => MethodResponse::error(request.id, error),
            };
            self.rules.count(SEND, &response, begun);
            response
        };
        requests.drain(..).zip(answers).map(answer).collect()
    }
}

/// Replaces the library's words by geth's.
fn reword(response: MethodResponse, id: Id<'_>, method: &str) -> MethodResponse {
    match response.as_error_code() {
        Some(METHOD_NOT_FOUND) => MethodResponse::error(id, errors::method_not_found(method)),
        Some(INTERNAL) if matches!(method, "eth_subscribe" | "eth_unsubscribe") => {
            let message = "notifications not supported";
            let error = ErrorObjectOwned::owned(METHOD_NOT_FOUND, message, None::<()>);
            MethodResponse::error(id, error)
        }
        _ => response,
    }
}

fn invalid_request(message: &'static str) -> MethodResponse {
    MethodResponse::error(Id::Null, ErrorObjectOwned::borrowed(INVALID_REQUEST, message, None))
}

impl<S> RpcServiceT for Geth<S>
where
    S: RpcServiceT<
            MethodResponse = MethodResponse,
            BatchResponse = MethodResponse,
            NotificationResponse = MethodResponse,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    type MethodResponse = MethodResponse;
    type BatchResponse = MethodResponse;
    type NotificationResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let service = self.clone();
        async move {
            let Some(call) = service.connection.call(length(&request)).await else {
                return MethodResponse::error(request.id, errors::cut_off());
            };
            let response = service.answer(request).await;
            // The library has sent the answer to a subscription.
            if response.is_method_call() {
                call.answered(response.as_ref().len());
            }
            response
        }
    }

    fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let service = self.clone();
        async move {
            if batch.is_empty() {
                return invalid_request("empty batch");
            }
            if batch.len() > service.rules.most {
                return invalid_request("batch too large");
            }
            let asked = batch.iter().map(|entry| match entry {
                Ok(BatchEntry::Call(request)) => length(request),
                Ok(BatchEntry::Notification(_)) | Err(_) => 0,
            });
            let Some(mut call) = service.connection.call(asked.sum()).await else {
                return MethodResponse::error(Id::Null, errors::cut_off());
            };
            let (Ok(response) | Err(response)) = service.answer_batch(batch, &mut call).await;
            if response.is_batch() || response.is_method_call() {
                call.answered(response.as_ref().len());
            } else {
                service.connection.ignored();
            }
            response
        }
    }

    fn notification<'a>(
        &self,
        notification: Notification<'a>,
    ) -> impl Future<Output = MethodResponse> + Send + 'a {
        let service = self.clone();
        async move {
            service.connection.ignored();
            service.inner.notification(notification).await
        }
    }
}

/// What is held of a request beside its name.
fn length(request: &Request<'_>) -> usize {
    request.params.as_ref().map_or(0, |params| params.get().len())
}

impl<S> Geth<S>
where
    S: RpcServiceT<MethodResponse = MethodResponse, NotificationResponse = MethodResponse>,
{
    /// One call, alone or of a batch.
    async fn answer(&self, mut request: Request<'_>) -> MethodResponse {
        let (id, method) = (request.id.clone(), request.method.clone());
        if request.extensions.get::<FromWebPage>().is_some() && method.starts_with("admin_") {
            return MethodResponse::error(id, errors::method_not_found(&method));
        }
        // A subscription goes on when the call is answered.
        request.extensions_mut().insert(self.connection.clone());
        let begun = Instant::now();
        let response = reword(self.inner.call(request).await, id, &method);
        self.rules.count(&method, &response, begun);
        response
    }

    /// One after the other, except that neighbouring transactions go to the pool together.
    /// `Err` is the answer in place of a batch that grew too long.
    async fn answer_batch(
        &self,
        batch: Batch<'_>,
        call: &mut Call,
    ) -> Result<MethodResponse, MethodResponse> {
        let mut answers = BatchResponseBuilder::new_with_limit(self.rules.longest);
        let mut append = |answer: MethodResponse| {
            if !call.grows(answer.as_ref().len()) {
                return Err(MethodResponse::error(Id::Null, errors::cut_off()));
            }
            answers.append(answer)
        };
        let mut sends = Vec::new();
        for entry in batch {
            match entry {
                Ok(BatchEntry::Call(request)) if request.method == SEND => {
                    sends.push(request);
                    continue;
                }
                other => {
                    self.send_all(&mut sends).await.into_iter().try_for_each(&mut append)?;
                    match other {
                        Ok(BatchEntry::Call(request)) => {
                            let answer = self.answer(request).await;
                            if answer.is_subscription() {
                                // The library has sent it as a message of its own as well.
                                self.connection.owes(0);
                            }
                            append(answer)?
                        }
                        Ok(BatchEntry::Notification(notification)) => {
                            self.inner.notification(notification).await;
                        }
                        Err(error) => {
                            let (error, id) = error.into_parts();
                            append(MethodResponse::error(id, error))?
                        }
                    }
                }
            }
        }
        self.send_all(&mut sends).await.into_iter().try_for_each(&mut append)?;
        if answers.is_empty() {
            return Ok(MethodResponse::notification());
        }
        Ok(MethodResponse::from_batch(answers.finish()))
    }
}
