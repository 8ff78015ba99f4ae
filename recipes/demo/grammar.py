"""What people say to a voice assistant: a grammar of commands with several hundred words.

`[a | b c | ]` is a choice (an empty one leaves it out), `<name>` another rule. Numbers and times are drawn by rules of
their own, so that each of them can follow any other.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Dict, List, Set, Tuple, Union

import numpy as np

GRAMMAR = """
command = [<timer> | <timer> | <alarm> | <music> | <music> | <music> | <volume> | <list> | <list> | <weather> |
    <lights> | <lights> | <heating> | <call> | <message> | <calendar> | <question> | <home> | <travel> | <control>]
timer = [set | start | make] a [timer | <food> timer] for <duration> | [cancel | stop | pause] the [<food> | first |
    last | ] timer | how much time is left on the [<food> | ] timer | add <small> minutes to the timer | <duration>
    timer please | remind me in <duration> to <chore>
alarm = [set an alarm | wake me up] [at | for] <clock> [<day> | ] | [cancel | delete | snooze] [my | the] alarm |
    wake me up at <clock> | when is my next alarm | set an alarm for <clock> every <weekday>
music = play [some | ] <genre> music [in the <room> | ] | play [the song | ] <song> [by <artist> | ] | play the
    [latest | newest | first] album by <artist> | put on my <mood> playlist | [skip | repeat | like] this [song |
    track] | [next | previous] [song | track] please | who sings this | what song is this | shuffle my <mood>
    playlist | play something by <artist> | play the <genre> station
volume = turn [it | the volume | the music] [up | down] [a little | a lot | ] | set the volume to <percent> | [mute
    | unmute] the [speaker | television | music] | make it [louder | quieter | softer] | volume <small>
list = [add | put] <items> [to | on] [my | the] [shopping | grocery] list | remove <item> from my [shopping |
    grocery] list | what is on my [shopping | to do | grocery] list | add <chore> to my to do list | clear my
    [shopping | to do] list | do i need <item>
weather = what is the weather [like | ] in <city> [<day> | ] | will it [rain | snow | freeze] [in <city> | ] <day> |
    do i need [an umbrella | a coat | a jacket | sunglasses] <day> | how [hot | cold | windy | warm | wet] is it
    [outside | in <city> | going to get <day>] | when does the sun [rise | set] <day> | is it [sunny | foggy |
    cloudy] in <city>
lights = turn [on | off] the [lights in the <room> | <room> [lights | lamp | fan]] | [dim | brighten] the <room>
    lights [to <percent> | ] | make the <room> lights <color> | set the <room> lights to [<color> | <percent>] | are
    the lights on in the <room>
heating = set the [heating | temperature | thermostat] [in the <room> | ] to <degrees> degrees | make it [warmer |
    cooler] in the <room> | what is the temperature in the <room> | turn [on | off] the [heating | air conditioning]
call = [call | phone | ring] <name> [at home | at work | on speaker | ] | [answer | end | ignore] the call | call
    <name> back | video call <name> | did <name> call me <past>
message = send [a message | an email] to <name> [saying <phrase> | ] | text <name> <phrase> | read my [new | last |
    unread] [messages | emails] | tell <name> <phrase>
calendar = [what is | show me what is] on my calendar <day> | [schedule | book] a [meeting | lunch | call | haircut]
    with <name> <day> [at <clock> | ] | move my meeting with <name> to <weekday> | cancel my <clock> appointment |
    am i free [on <weekday> | <day>] | when is my meeting with <name>
question = how [far | big | old | tall] is the [moon | sun | earth | tower] | what is <number> [plus | minus | times
    | divided by] <number> | how do you spell <item> | how many [ounces | grams | cups | spoons] are in a [pound |
    kilogram | pint | liter] | tell me a [joke | story | riddle | fact] | what day is it <day> | what time is it in
    <city> | who won the [game | match | race | election] <past> | what does <mood> mean in [spanish | french |
    german | italian]
home = [lock | unlock | open | close] the [front | back | garage | bathroom] [door | window | gate] | is the [front
    | back | garage] door [locked | open | closed] | [start | stop | empty] the [vacuum | dishwasher | washing
    machine | dryer | coffee machine | oven] | show me the [front door | garden | driveway] camera | feed the [cat |
    dog | fish]
travel = how long does it take to [drive | walk | cycle] to [<city> | work | the <place>] | find the nearest <place>
    | navigate to [the <place> | <city>] | when is the next [bus | train | flight | ferry] to <city> | book a [taxi
    | table | hotel | room] for [<small> people | <name>] <day> | how is the traffic [to <city> | ]
control = [stop | cancel | pause | resume | continue | yes | no | okay | thanks | thank you | good morning | good
    night | good evening | go back | help | never mind | say that again | be quiet | louder | quieter | next |
    repeat]
duration = <small> [minutes | hours | seconds] | <tens> [minutes | seconds] | <tens> <digit> minutes | one [hour |
    minute] | half an hour | <small> and a half [hours | minutes] | an hour and <tens> minutes
clock = <hour> [o'clock | thirty | fifteen | forty five | a m | p m | ] | half past <hour> | quarter [to | past]
    <hour> | [ten | five | twenty] [to | past] <hour> | noon | midnight
hour = [one | two | three | four | five | six | seven | eight | nine | ten | eleven | twelve]
digit = [one | two | three | four | five | six | seven | eight | nine]
small = [two | three | four | five | six | seven | eight | nine | ten | eleven | twelve]
teen = [ten | eleven | twelve | thirteen | fourteen | fifteen | sixteen | seventeen | eighteen | nineteen]
tens = [twenty | thirty | forty | fifty | sixty | seventy | eighty | ninety]
number = [<digit> | <teen> | <tens> | <tens> <digit> | <digit> hundred | <digit> hundred and <tens> | a thousand]
degrees = [<teen> | twenty | twenty <digit> | sixty <digit> | seventy <digit>]
percent = <tens> percent | <teen> percent | a hundred percent | half | maximum | minimum
day = [today | tomorrow | tonight | this [morning | afternoon | evening | weekend] | on <weekday> | next [week |
    <weekday>]]
past = [yesterday | last [night | week | <weekday>] | this morning | today]
weekday = [monday | tuesday | wednesday | thursday | friday | saturday | sunday]
room = [kitchen | bedroom | bathroom | living room | hallway | office | garage | basement | dining room | nursery |
    attic | garden | balcony]
genre = [jazz | rock | pop | classical | country | folk | soul | blues | reggae | metal | dance | electronic | latin
    | piano | guitar | disco | punk | opera | gospel | swing]
mood = [workout | party | relaxing | happy | sleepy | summer | winter | driving | dinner | study | morning |
    romantic | running | cooking | holiday]
song = [golden river | midnight train | dancing in the rain | silver moon | wild horses | summer love | broken heart
    | yellow bird | city lights | paper planes | under the bridge | sweet dreams | stormy weather | blue sky |
    lonely road | fire and ice | ocean waves | crystal garden | hello stranger | forever young | purple shadow |
    empty chairs]
artist = [the velvet foxes | maria lopez | johnny stone | the northern stars | emma brooks | black canyon | the
    paper kings | oliver grey | sophie chambers | the quiet thunder | victor hayes | ruby sanders | electric lemon |
    the lost pilots | frank turner | lily harper | the wooden spoons]
item = [milk | bread | butter | cheese | eggs | apples | bananas | oranges | lemons | tomatoes | potatoes | onions |
    carrots | garlic | rice | pasta | flour | sugar | salt | pepper | coffee | tea | juice | water | chicken | beef
    | salmon | yogurt | honey | chocolate | cookies | cereal | soap | shampoo | toothpaste | paper towels |
    batteries | light bulbs | mushrooms | spinach | strawberries | olive oil | vinegar | beans]
items = <item> | <item> and <item> | <small> <item>
food = [pizza | egg | pasta | rice | chicken | cake | bread | tea | laundry | cookie | soup]
chore = [call <name> | feed the cat | walk the dog | water the plants | take out the trash | buy flowers | clean the
    <room> | pay the rent | pick up the kids | wash the car | check the oven | take my medicine | return the books |
    iron my shirts | mow the lawn | fix the bike]
city = [london | paris | berlin | madrid | rome | vienna | boston | chicago | seattle | denver | dallas | toronto |
    sydney | tokyo | dublin | new york | los angeles | amsterdam | lisbon | athens | miami | houston | oslo |
    stockholm]
color = [red | green | blue | white | yellow | purple | orange | pink | warm white]
name = [mom | dad | anna | peter | michael | sarah | david | laura | james | julia | thomas | emily | robert | alice
    | daniel | grandma | doctor miller | mister jones | hannah | george | rachel | steven | barbara | kevin | susan]
phrase = i am [late | on my way | almost there | busy | stuck in traffic] | happy birthday | see you [tomorrow |
    tonight | on <weekday>] | call me [back | later] | where are you | dinner is ready | thank you | i love you |
    good luck
place = [airport | station | supermarket | pharmacy | hospital | library | museum | restaurant | bakery | bank |
    beach | park | cinema | gym | school | gas station | post office]
"""
RULES: Dict[str, str] = dict(
    rule.split(" = ", 1) for rule in re.sub(r"\s*\n    \s*", " ", GRAMMAR).strip().split("\n")  # type: ignore[misc]
)

Node = Union[str, Tuple["Node", ...], List["Node"]]  # a word, a rule "<x>"; a sequence; a list: a choice


@cache
def _parsed(rule: str) -> Node:
    tokens = re.findall(r"<[a-z]+>|[a-z']+|[\[\]|]", RULES[rule])
    choice, remainder = _choice(tokens)
    if remainder:
        raise ValueError(f"rule {rule}: {' '.join(remainder)!r} is left over")
    return choice


def _choice(tokens: List[str]) -> Tuple[List[Node], List[str]]:
    options: List[Node] = []
    sequence: List[Node] = []
    while tokens and tokens[0] != "]":
        token, tokens = tokens[0], tokens[1:]
        if token == "|":
            options.append(tuple(sequence))
            sequence = []
        elif token == "[":
            inner, tokens = _choice(tokens)
            if not tokens:
                raise ValueError("a bracket is not closed")
            sequence.append(inner)
            tokens = tokens[1:]
        else:
            sequence.append(token)
    return [*options, tuple(sequence)], tokens


def _sample(node: Node, rng: np.random.Generator) -> List[str]:
    if isinstance(node, str):
        return _sample(_parsed(node[1:-1]), rng) if node.startswith("<") else [node]
    if isinstance(node, list):
        return _sample(node[int(rng.integers(len(node)))], rng)
    return [word for part in node for word in _sample(part, rng)]


def sentence(rng: np.random.Generator, longest: int = 9) -> str:
    """Return a command of at most `longest` words, in lower case."""
    while True:
        words = _sample("<command>", rng)
        if len(words) <= longest:
            return " ".join(words)


def vocabulary() -> Set[str]:
    """Return every word that the grammar can say."""
    return {word for rule in RULES for word in re.findall(r"(?<!<)\b[a-z']+\b(?!>)", RULES[rule])}
