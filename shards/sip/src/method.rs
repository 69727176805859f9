//! Methods (RFC 3261 §7.1, §27.4). Unknown ones are kept octet for octet; case matters.

macro_rules! methods {
    ($($variant:ident $text:literal),* $(,)?) => {
        /// A request method.
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Method<'b> {
            $(#[doc = $text] $variant,)*
            /// Any other token.
            Other(&'b [u8]),
        }

        impl<'b> Method<'b> {
            /// The method that `token` names.
            pub fn new(token: &'b [u8]) -> Self {
                $(if token == $text.as_bytes() { return Self::$variant; })*
                Self::Other(token)
            }

            /// As it stands on the wire.
            pub fn as_bytes(&self) -> &'b [u8] {
                match self {
                    $(Self::$variant => $text.as_bytes(),)*
                    Self::Other(token) => token,
                }
            }
        }
    };
}

methods! {
    Invite "INVITE",
    Ack "ACK",
    Bye "BYE",
    Cancel "CANCEL",
    Register "REGISTER",
    Options "OPTIONS",
    Info "INFO",
    Message "MESSAGE",
    Notify "NOTIFY",
    Prack "PRACK",
    Publish "PUBLISH",
    Refer "REFER",
    Subscribe "SUBSCRIBE",
    Update "UPDATE",
}

impl std::fmt::Debug for Method<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}
