"""Speech from eSpeak NG, with the true times of its words and phones.

The library comes in the wheel `espeakng-loader` (GPL 3, like eSpeak NG): an extra of this recipe alone, never imported
by `hybrid`. It keeps global state and is not thread-safe: one process, one synthesiser.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
from scipy import signal

from hybrid.errors import DataError, HybridError, MissingDependency

RATE = 16000

# From eSpeak NG's speak_lib.h.
_SYNCHRONOUS, _PHONEME_EVENTS, _DONT_EXIT = 2, 1 << 0, 1 << 15
_EVENT_WORD, _EVENT_PHONEME = 1, 7
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_CHARS_UTF8 = 1


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("position", ctypes.c_int),  # of a word in the text, in characters, from 1
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("phone", ctypes.c_char * 8),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Voice:
    """One synthetic speaker. rate: words a minute; pitch, pitch_range: 0 to 100, 50 is the variant's own.

    warp: by what factor formants and pitch are higher (and speech faster): a shorter or longer vocal tract.
    """

    name: str
    accent: str  # a language of eSpeak NG, such as en-us
    variant: str  # a file of its voices/!v
    rate: int = 170
    pitch: int = 50
    pitch_range: int = 50
    warp: float = 1.0


@dataclass(frozen=True)
class SynthesisedSpeech:
    """audio: float32 [samples] at 16 kHz. phones: (symbol, start, duration) in seconds.

    words: (word, index of its first phone in `phones`); a word that eSpeak NG runs together with the one before it
    ("in the") has None there.
    """

    audio: np.ndarray
    phones: List[Tuple[str, float, float]]
    words: List[Tuple[str, Optional[int]]]


_library: Any = None
_rate = 0
_audio: List[np.ndarray] = []
_events: List[Tuple[int, int, int, str]] = []  # type, position, sample, phone


def _collect(samples: Any, count: int, events: Any) -> int:
    if count > 0:
        _audio.append(np.ctypeslib.as_array(samples, (count,)).copy())
    index = 0
    while events[index].type != 0:
        event = events[index]
        if event.type in (_EVENT_WORD, _EVENT_PHONEME):
            phone = event.phone.decode("utf-8", "replace") if event.type == _EVENT_PHONEME else ""
            _events.append((event.type, event.position, event.sample, phone))
        index += 1
    return 0


_callback = _Callback(_collect)  # kept: the library holds a bare pointer to it


def library() -> Any:
    """Return eSpeak NG, started once a process. Raises MissingDependency where its wheel is not installed."""
    global _library, _rate
    if _library is not None:
        return _library
    try:
        import espeakng_loader
    except ImportError:
        raise MissingDependency(
            "espeakng-loader is not installed; the demo's speech is synthesised with it",
            remedy="pip install espeakng-loader (GPL), or run a recipe with recorded speech",
        ) from None
    try:
        lib = ctypes.CDLL(str(espeakng_loader.get_library_path()))
    except OSError as error:
        raise MissingDependency(
            f"eSpeak NG does not load: {error}", remedy="pip install --force-reinstall espeakng-loader"
        ) from None
    data = str(espeakng_loader.get_data_path()).encode()
    _rate = lib.espeak_Initialize(_SYNCHRONOUS, 0, data, _PHONEME_EVENTS | _DONT_EXIT)
    if _rate <= 0:
        raise MissingDependency(
            "eSpeak NG does not start: its data are missing", remedy="pip install --force-reinstall espeakng-loader"
        )
    lib.espeak_SetSynthCallback(_callback)
    lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
    # Breathy voices draw their noise from the C library's rand().
    lib.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    lib.espeak_ng_SetRandSeed(1)
    _library = lib
    return lib


def forget() -> None:
    """Unload eSpeak NG; the next call loads it again (some 2 ms).

    Its noises and pitch periods go on from where the utterance before has left them, in variables that neither
    espeak_Terminate nor espeak_ng_SetRandSeed resets. Only a library loaded afresh says the same text the same way
    whatever was said before, and on it rests that a run that was killed and resumed gives the same samples.
    """
    global _library
    if _library is None:
        return
    handle, _library = _library._handle, None
    ctypes.CDLL(None, handle=handle).espeak_Terminate()
    try:
        from _ctypes import dlclose
    except ImportError:  # Windows: there the samples depend on what was said before
        return
    dlclose(handle)


def set_voice(voice: Voice) -> None:
    lib = library()
    name = f"{voice.accent}+{voice.variant}" if voice.variant else voice.accent
    if lib.espeak_SetVoiceByName(name.encode()) != 0:
        raise DataError(f"eSpeak NG has no voice {name!r}", remedy="pip install espeakng-loader==0.2.4")
    for parameter, value in ((_RATE, voice.rate), (_VOLUME, 50), (_PITCH, voice.pitch), (_RANGE, voice.pitch_range)):
        lib.espeak_SetParameter(parameter, value, 0)


def speak(voice: Voice, text: str) -> SynthesisedSpeech:
    """Speak a text: the same samples for the same voice and text, always. Raises HybridError where nothing is heard."""
    forget()
    set_voice(voice)
    _audio.clear()
    _events.clear()
    raw = text.encode("utf-8")
    if library().espeak_Synth(raw, len(raw) + 1, 0, 1, 0, _CHARS_UTF8, None, None) != 0 or not _audio:
        raise HybridError(
            f"eSpeak NG says nothing for {text!r}", remedy="pip install --force-reinstall espeakng-loader"
        )
    audio = np.concatenate(_audio).astype(np.float32) / 32768
    rate = 50 * round(_rate * voice.warp / 50)  # played back at this rate
    common = math.gcd(rate, RATE)
    phones: List[Tuple[str, int]] = []
    starts: List[Tuple[int, int]] = []  # position in the text, index of the first phone
    for kind, position, sample, phone in _events:
        if kind == _EVENT_WORD:
            starts.append((position - 1, len(phones)))
        else:
            phones.append((phone, sample))
    ends = [sample for _, sample in phones[1:]] + [len(audio)]
    return SynthesisedSpeech(
        audio=signal.resample_poly(audio, RATE // common, rate // common).astype(np.float32),
        phones=[(phone, start / rate, (end - start) / rate) for (phone, start), end in zip(phones, ends, strict=True)],
        words=_words(text, starts),
    )


def _words(text: str, starts: List[Tuple[int, int]]) -> List[Tuple[str, Optional[int]]]:
    first_phones: Dict[int, int] = {}
    for position, index in starts:
        first_phones.setdefault(position, index)
    words: List[Tuple[str, Optional[int]]] = []
    position = 0
    for word in text.split(" "):
        words.append((word, first_phones.get(position)))
        position += len(word) + 1
    return words


def phonemes(voice: Voice, text: str) -> List[str]:
    """Return eSpeak NG's phoneme names for `text` spoken alone."""
    set_voice(voice)
    pointer = ctypes.c_char_p(text.encode("utf-8"))
    names: List[str] = []
    while pointer.value:
        encoded = library().espeak_TextToPhonemes(ctypes.byref(pointer), _CHARS_UTF8, ord("_") << 8)
        names.extend((encoded or b"").decode("utf-8").replace(" ", "_").split("_"))
    return [name for name in names if name]
