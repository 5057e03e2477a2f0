"""Bytes that are no message: refused as any other wrong input is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Continuation = Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None]


class _Undecodable:
    """Takes the place of a request that could not be read."""


_UNDECODABLE = _Undecodable()


class Decoding(grpc.ServerInterceptor):  # type: ignore[misc, type-arg, unused-ignore]
    """Reads the requests of every method of a server.

    What grpcio (seen with 1.85) does by itself with a request that it cannot read keeps the call's
    place on the connection for ever: after as many as there are places, every later call on the
    connection is refused. It also writes a traceback each time.
    """

    def intercept_service(  # type: ignore[explicit-override, unused-ignore]
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Return the method behind our reading."""
        handler: Any = continuation(handler_call_details)
        if handler is None:
            return None
        kinds = {
            (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
            (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
            (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
            (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
        }
        name, make = kinds[handler.request_streaming, handler.response_streaming]
        method = getattr(handler, name)
        if handler.request_streaming:
            checked = _check_each(method)
        elif handler.response_streaming:
            checked = _check_and_stream(method)
        else:
            checked = _check(method)
        return make(checked, _tolerant(handler.request_deserializer), handler.response_serializer)


def _tolerant(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    def read(content: bytes) -> Any:
        if deserialize is None:
            return content
        try:
            return deserialize(content)
        except Exception:  # noqa: BLE001 - whatever a parser raises, these bytes are no message
            return _UNDECODABLE

    return read


def _check(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(request: Any, context: grpc.ServicerContext) -> Any:
        _refuse_undecodable(request, context)
        return method(request, context)

    return call


def _check_and_stream(method: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        _refuse_undecodable(request, context)
        yield from method(request, context)

    return stream


def _check_each(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        def checked() -> Iterator[Any]:
            for request in requests:
                _refuse_undecodable(request, context)
                yield request

        return method(checked(), context)

    return call


def _refuse_undecodable(request: Any, context: grpc.ServicerContext) -> None:
    if request is _UNDECODABLE:
        context.abort(
            grpc.StatusCode.INVALID_ARGUMENT,
            "the request is no message of this method: is boardfront the same on both sides?",
        )
