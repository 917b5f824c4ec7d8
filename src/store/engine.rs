pub(super) struct Inner;
