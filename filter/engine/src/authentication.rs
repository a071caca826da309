//! Who a request comes from: every configured method must succeed, save those of which one is enough (`anyOf`).

use crate::{
    api_key::ApiKeys,
    basic_auth::BasicAuth,
    credential::source::Source,
    denial::Reason,
    document::{Document, Method, Secrets},
    host::Host,
    http::{RequestHead, header::same_to_backend},
    identity::{IdentityHeaders, Principal},
    jwt::{Jwt, KnownToken},
    policy::{PolicyError, told},
    refusal::refuse,
    request::Request,
    step::LocalReply,
    worker::{Hashing, Worker},
};

/// The methods in the order in which they are tried: what costs least comes first.
const METHODS: [Method; 3] = [Method::ApiKey, Method::Jwt, Method::BasicAuth];

/// Compiled authentication.
#[derive(Debug)]
pub(crate) struct Authentication {
    api_keys: Option<ApiKeys>,
    basic_auth: Option<BasicAuth>,
    jwt: Option<Jwt>,
    any_of: Vec<Method>,
}

/// The verified identities of one request.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    client: Option<Principal>,
    user: Option<Principal>,
    token: Option<KnownToken>,
}

impl Identity {
    /// The identity that logs tell: a user's before a token's, and that before an API client's; and the token.
    pub(crate) fn into_parts(self) -> (Option<Principal>, Option<KnownToken>) {
        let token = self.token.as_ref().and_then(Principal::of_token);
        (self.user.or(token).or(self.client), self.token)
    }
}

impl Authentication {
    pub(crate) fn compile(document: &Document, secrets: &Secrets) -> Result<Self, PolicyError> {
        let stray = |secrets: bool, what: &str| {
            let message = told!("{what} come without the authentication that they are for");
            if secrets {
                Err(PolicyError::new(String::new(), "stray-secrets", message))
            } else {
                Ok(())
            }
        };
        stray(document.api_key.is_none() && !secrets.api_keys.is_empty(), "API keys")?;
        stray(document.basic_auth.is_none() && !secrets.users.is_empty(), "users")?;
        stray(document.jwt.is_none() && !secrets.key_sets.is_empty(), "key sets")?;
        let api_key = document.api_key.as_ref();
        let basic_auth = document.basic_auth.as_ref();
        let compiled = Self {
            api_keys: api_key
                .map(|api_key| ApiKeys::compile(api_key, &secrets.api_keys))
                .transpose()?,
            basic_auth: basic_auth
                .map(|basic_auth| BasicAuth::compile(basic_auth, &secrets.users))
                .transpose()?,
            jwt: document
                .jwt
                .as_ref()
                .map(|jwt| Jwt::compile(jwt, &secrets.key_sets))
                .transpose()?,
            any_of: document.any_of.clone(),
        };
        compiled.check_alternatives()?;
        Ok(compiled)
    }

    fn check_alternatives(&self) -> Result<(), PolicyError> {
        let error = |path, code, message: &str| Err(PolicyError::new(path, code, told!("{message}")));
        for (index, method) in self.any_of.iter().enumerate() {
            let path = told!("anyOf[{index}]");
            if !self.is_configured(*method) {
                return error(path, "method-not-configured", "this method is not configured");
            }
            if self.any_of.iter().take(index).any(|earlier| earlier == method) {
                return error(path, "duplicate-method", "this method is listed twice");
            }
        }
        if self.any_of.len() == 1 {
            let message = "a choice needs two methods at least";
            return error(told!("anyOf"), "too-few-methods", message);
        }
        if self.any_of.contains(&Method::Jwt) && self.jwt.as_ref().is_some_and(Jwt::admits_anybody) {
            let message =
                "a method that lets anybody in makes the others pointless; set neither jwt.optional nor jwt.failOpen";
            return error(told!("anyOf"), "optional-alternative", message);
        }
        let (client, user) = (self.forward(Method::ApiKey), self.forward(Method::BasicAuth));
        if let (Some(client), Some(user)) = (client, user)
            && same_to_backend(client, user)
            && !self.are_alternatives(Method::ApiKey, Method::BasicAuth)
        {
            let message = "one header cannot carry the client's id and the user's name";
            let path = told!("basicAuth.forwardUsernameHeader");
            return error(path, "duplicate-identity-header", message);
        }
        for (method, header) in [(Method::ApiKey, client), (Method::BasicAuth, user)] {
            let claims = self.jwt.as_ref().zip(header);
            if claims.is_some_and(|(jwt, header)| jwt.sets(header)) && !self.are_alternatives(method, Method::Jwt) {
                let message = "one header cannot carry a claim and the identity of another method";
                return error(told!("jwt.providers"), "duplicate-identity-header", message);
            }
        }
        Ok(())
    }

    /// Tells whether at most one of two methods verifies a request.
    fn are_alternatives(&self, one: Method, other: Method) -> bool {
        self.any_of.contains(&one) && self.any_of.contains(&other)
    }

    fn is_configured(&self, method: Method) -> bool {
        match method {
            Method::ApiKey => self.api_keys.is_some(),
            Method::BasicAuth => self.basic_auth.is_some(),
            Method::Jwt => self.jwt.is_some(),
        }
    }

    fn forward(&self, method: Method) -> Option<&[u8]> {
        match method {
            Method::ApiKey => self.api_keys.as_ref()?.forward(),
            Method::BasicAuth => self.basic_auth.as_ref()?.forward(),
            Method::Jwt => None,
        }
    }

    /// What verifies tokens.
    pub(crate) const fn jwt(&self) -> Option<&Jwt> {
        self.jwt.as_ref()
    }

    /// Tells whether this policy sets a header, for some requests at least, `_` taken for `-`.
    pub(crate) fn sets(&self, name: &[u8]) -> bool {
        METHODS
            .iter()
            .filter_map(|method| self.forward(*method))
            .any(|forward| same_to_backend(forward, name))
            || self.jwt.as_ref().is_some_and(|jwt| jwt.sets(name))
    }

    /// Names the headers that only this policy may set.
    pub(crate) fn identity_headers(&self, names: &mut IdentityHeaders) {
        if let Some(api_keys) = &self.api_keys {
            api_keys.identity_headers(names);
        }
        if let Some(basic_auth) = &self.basic_auth {
            basic_auth.identity_headers(names);
        }
        if let Some(jwt) = &self.jwt {
            jwt.identity_headers(names);
        }
    }

    /// Verifies what the request carries, for the policy of that identity.
    ///
    /// # Errors
    /// The answer to a request that is not let in, with the challenges of what would have let it in.
    pub(crate) fn authenticate(
        &self,
        policy: &str,
        request: &Request<'_, impl Host>,
        worker: &mut Worker,
        hashing: Hashing,
    ) -> Result<Identity, LocalReply> {
        let mut verify = |method, identity: &mut Identity| match method {
            Method::ApiKey => {
                let api_keys = self.api_keys.as_ref().ok_or(Reason::HostFault)?;
                let client = api_keys.authenticate(request)?;
                identity.client = Some(Principal::of_api_client(client));
                Ok(())
            }
            Method::BasicAuth => {
                let basic_auth = self.basic_auth.as_ref().ok_or(Reason::HostFault)?;
                let user = basic_auth.authenticate(policy, request, worker, hashing)?;
                identity.user = Some(Principal::of_user(user));
                Ok(())
            }
            Method::Jwt => {
                let jwt = self.jwt.as_ref().ok_or(Reason::HostFault)?;
                identity.token = jwt.authenticate(policy, request, worker)?;
                Ok(())
            }
        };
        let mut identity = Identity::default();
        for method in METHODS {
            if self.is_configured(method) && !self.any_of.contains(&method) {
                verify(method, &mut identity).map_err(|reason| self.refusal(reason, &[method]))?;
            }
        }
        let mut refusal = None;
        for method in METHODS {
            if !self.any_of.contains(&method) {
                continue;
            }
            match verify(method, &mut identity) {
                Ok(()) => return Ok(identity),
                // What is missing says less than what is wrong. Of two wrong ones the last is told: `Basic` names its
                // scheme, while an API key may be looked for in the same header.
                Err(Reason::ApiKeyMissing | Reason::BasicMissing | Reason::JwtMissing) => {
                    refusal.get_or_insert(Reason::CredentialMissing);
                }
                Err(reason) => refusal = Some(reason),
            }
        }
        match refusal {
            None => Ok(identity),
            Some(reason) => Err(self.refusal(reason, &self.any_of)),
        }
    }

    /// One challenge a line (RFC 9110 §11.6.1), in the order in which the methods are tried.
    fn refusal(&self, reason: Reason, methods: &[Method]) -> LocalReply {
        let mut reply = refuse(reason);
        match reply.status {
            401 | 403 => {
                for method in METHODS.iter().filter(|method| methods.contains(method)) {
                    let challenge = (b"www-authenticate".to_vec(), self.challenge(*method, reason).to_vec());
                    if !reply.headers.contains(&challenge) {
                        reply.headers.push(challenge);
                    }
                }
            }
            _ if matches!(reason, Reason::BasicBusy | Reason::JwtKeysUnavailable) => {
                reply.headers.push((b"retry-after".to_vec(), b"1".to_vec()))
            }
            _ => {}
        }
        reply
    }

    fn challenge(&self, method: Method, reason: Reason) -> &'static [u8] {
        match method {
            Method::ApiKey => self.api_keys.as_ref().map_or(b"", ApiKeys::challenge),
            Method::BasicAuth => BasicAuth::CHALLENGE,
            Method::Jwt => Jwt::challenge(reason),
        }
    }

    /// The headers that tell the backend who was verified.
    pub(crate) fn forwarded<'a>(&'a self, identity: &'a Identity) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let client = self.forward(Method::ApiKey).zip(identity.client.as_ref());
        let user = self.forward(Method::BasicAuth).zip(identity.user.as_ref());
        let names = client.into_iter().chain(user);
        let names = names.map(|(header, principal)| (header, principal.name().as_bytes()));
        let token = self.jwt.as_ref().zip(identity.token.as_ref());
        names.chain(token.into_iter().flat_map(|(jwt, token)| jwt.forwarded(token)))
    }

    /// The places of credentials that are removed from the request before it is forwarded.
    pub(crate) fn sanitized<'a>(&'a self, head: &'a RequestHead) -> impl Iterator<Item = &'a Source> + Clone {
        let keys = self.api_keys.as_ref().map_or(&[][..], ApiKeys::sanitized);
        keys.iter().chain(self.jwt.iter().flat_map(|jwt| jwt.stripped(head)))
    }
}
