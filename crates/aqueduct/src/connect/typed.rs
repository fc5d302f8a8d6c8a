//! An endpoint to typed ends, in one call.

use super::{Connection, Error, Listener, Options};
use crate::codec::{Codec, Decode, Encode};
use crate::endpoint::Endpoint;
use crate::{Channel, Receiver, Sender};

/// Opening with the default [`Options`]; see the [module](crate::connect).
impl Endpoint {
    /// Connects a two-way endpoint: [`Options::connect`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn connect(&self) -> Result<Connection, Error> {
        Options::new().connect(self).await
    }

    /// Binds a two-way endpoint: [`Options::bind`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn bind(&self) -> Result<Listener, Error> {
        Options::new().bind(self).await
    }

    /// Connects a two-way endpoint as a typed channel: sends `Out`, receives `In`.
    ///
    /// # Errors
    ///
    /// Those of [`Options::connect`].
    ///
    /// # Cancel safety
    ///
    /// As there.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::Endpoint;
    /// use aqueduct::codec::Text;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cat: Endpoint = "exec:cat".parse()?;
    /// let mut cat = cat.open_channel::<String, String>(Text).await?;
    /// cat.send("meow".into()).await?;
    /// assert_eq!(cat.recv().await.transpose()?, Some("meow".into()));
    /// # Ok(()) }
    /// ```
    pub async fn open_channel<Out, In>(
        &self,
        codec: impl Codec<Out> + Codec<In> + Clone + 'static,
    ) -> Result<Channel<Out, In>, Error> {
        Ok(self.connect().await?.channel(codec))
    }

    /// Opens the sending end: [`Options::open_sender`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn open_sender<T>(
        &self,
        codec: impl Encode<T> + 'static,
    ) -> Result<Sender<T>, Error> {
        Ok(Options::new().open_sender(self).await?.typed(codec))
    }

    /// Opens the receiving end: [`Options::open_receiver`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn open_receiver<T>(
        &self,
        codec: impl Decode<T> + 'static,
    ) -> Result<Receiver<T>, Error> {
        Ok(Options::new().open_receiver(self).await?.typed(codec))
    }
}
