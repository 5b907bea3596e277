"""Everyday English and German sentences from two small grammars, and the split that each sentence belongs to.

Sentences have 3 to 8 words in lower case, with letters, spaces and (in English) apostrophes only; numbers are spelled
out. They were all written for this project.
"""

import hashlib
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

_SLOT = re.compile(r"\{(\w+)\}")
_SAME = re.compile(r"\b(\w+) (?:and|from|und|von) \1\b")  # "how far is rome from rome"


@dataclass(frozen=True, slots=True)
class Grammar:
    """Templates such as "meet {name} at {clock}", and the fillers of their slots, which may contain slots too."""

    templates: tuple[str, ...]
    slots: Mapping[str, tuple[str, ...]]

    def sentence(self, rng: random.Random) -> str:
        """Draw a sentence of at most 8 words."""
        while True:
            text = self._fill(rng.choice(self.templates), rng)
            if text.count(" ") < 8 and not _SAME.search(text):
                return text

    def words(self) -> frozenset[str]:
        """Return all words that can occur in a sentence."""
        texts = [*self.templates, *(filler for fillers in self.slots.values() for filler in fillers)]
        return frozenset(word for text in texts for word in _SLOT.sub(" ", text).split())

    def fingerprint(self) -> str:
        """Return eight hex digits that change when the grammar does."""
        text = repr((self.templates, sorted(self.slots.items())))
        return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()

    def _fill(self, text: str, rng: random.Random) -> str:
        return _SLOT.sub(lambda match: self._fill(rng.choice(self.slots[match[1]]), rng), text)


def english(rng: random.Random) -> str:
    """Draw an English sentence."""
    return ENGLISH.sentence(rng)


def german(rng: random.Random) -> str:
    """Draw a German sentence."""
    return GERMAN.sentence(rng)


def split_of(sentence: str) -> str:
    """Return the only split that may use `sentence`: "train" (for 8 of 10), "validation", "test" or "source_test".

    The split depends on a hash of the text, not on a seed. So no synthetic corpus, whatever its seed, trains on a
    sentence that another one tests on.
    """
    number = int.from_bytes(hashlib.blake2b(sentence.encode(), digest_size=8).digest(), "big") % 20
    if number in (0, 10):
        return "test" if number == 0 else "source_test"
    return "validation" if number in (1, 11) else "train"


def _list(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(","))


ENGLISH = Grammar(
    templates=_list(
        """
        turn on the {device} in the {room}, turn off the {device} in the {room}, please {switch} the {device} {soon},
        is the {device} in the {room} {state}, the {device} in the {room} is {state}, who left the {device} {state},
        set the {device} to {number} degrees, wake me up at {clock}, remind me to call {person} {future},
        call {person} and ask about the {thing}, send {person} a message about {topic},
        read me the message from {person}, what time does the {shop} {open} {future}, the {shop} {opens} at {clock},
        is the {shop} open on {day}, how far is {city} from {city}, the {vehicle} to {city} leaves at {clock},
        when does the {vehicle} reach {city}, i need {number} tickets to {city},
        the {vehicle} from {city} is {number} minutes late, take the {vehicle} to the {shop},
        we flew to {city} in {month}, {name} moved to {city} last {month}, {name} has lived in {city} since {month},
        will it be {weather} in {city} {future}, it was {weather} in {city} {past}, expect {storm} in {city} on {day},
        {storm} and {storm} are coming {future}, the {season} in {city} was {weather},
        i love {weather} days in {month}, add {food} and {food} to my list, we have {number} {plural} and some {food},
        do we still have any {food}, {person} would like {meal} with {food}, i had {meal} with {person} {past},
        buy {number} {plural} and {number} {plural}, {name} cooked {food} with {plural} {past},
        this {food} tastes {taste}, the {plural} were {taste} and {taste}, where did you put my {colour} {thing},
        i lost my {quality} {thing} in {city}, {name} bought a {colour} {thing} {past},
        the {quality} {thing} belongs to {person}, put the {thing} under the {furniture},
        there is a {thing} behind the {furniture}, the {colour} {furniture} is too {quality},
        {name} painted the {furniture} {colour}, clean the {furniture} in the {room},
        a {colour} {animal} slept on the {furniture}, {name} saw a {animal} near the {shop},
        my {animal} is afraid of {storm}, the {animal} ran {manner} across the {nature},
        we walked {manner} along the {nature}, the {nature} looks {colour} in {season},
        {person} {plays} the {instrument} {manner}, {name} is learning to play the {instrument},
        my {relative} teaches {subject} in {city}, {name} studied {subject} for {number} years,
        {subject} class starts at {clock}, the {subject} exam is on {day}, my {relative} has a {ache} {ache_time},
        the doctor will see you at {clock}, take {number} spoons before {meal}, my {body} hurts since {day},
        {person} broke a {body} {past}, wash your {body} with warm water, {name} works as a {job},
        the {job} arrived at {clock}, ask the {job} for the {thing}, {name} is {number} years old,
        our house number is {number} {digit}, that costs {bignumber} dollars,
        there are {bignumber} people in the {shop}, only {number} of them were {feeling},
        why are you so {feeling} {soon}, {person} felt {feeling} {past}, i am {feeling} about the {topic_noun},
        we talked {manner} about the {topic_noun}, play some {music} in the {room}, {person} loves {music} music,
        the {topic_noun} begins on {day} at {clock}, happy birthday dear {relative},
        thank you for the {quality} {thing}, good {daytime} {name} how are you, see you on {day} at the {shop},
        i'll meet {person} at the {shop}, don't forget the {thing} {soon}, we can't find the {thing} anywhere,
        it's {number} minutes past {hour}, that's the {colour} {vehicle} to {city},
        drive {manner} through the {nature}, turn {side} at the {shop}, the {shop} is on the {side} side,
        write {digit} {digit} {digit} {digit} down, my number ends with {digit} {digit} {digit},
        the code is {digit} {digit} {digit}
        """
    ),
    slots={
        "name": _list(
            "anna, ben, clara, david, emma, frank, george, helen, ivan, julia, kate, laura, martin, nora, oliver, "
            "peter, ruth, simon, thomas, victor, wendy, zoe"
        ),
        "relative": _list("mother, father, brother, sister, uncle, aunt, cousin, grandmother, friend, daughter, son"),
        "person": ("{name}", "{name}", "my {relative}"),
        "room": _list("kitchen, bedroom, bathroom, garage, cellar, garden, office, attic"),
        "device": _list("lamp, heater, radio, television, fan, oven, alarm, printer, computer, kettle"),
        "switch": _list("check, move, repair, start, stop"),
        "state": _list("on, off, broken, ready, running, hot"),
        "soon": _list("now, again, later, right now"),
        "future": _list("today, tomorrow, tonight, next week, this evening, on {day}"),
        "past": _list("yesterday, last night, this morning, on {day}, last week"),
        "day": _list("monday, tuesday, wednesday, thursday, friday, saturday, sunday"),
        "month": _list(
            "january, february, march, april, may, june, july, august, september, october, november, december"
        ),
        "season": _list("spring, summer, autumn, winter"),
        "daytime": _list("morning, afternoon, evening, night"),
        "hour": _list("one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve"),
        "clock": _list("{hour}, {hour} o'clock, half past {hour}, quarter to {hour}, noon, midnight"),
        "digit": _list("zero, one, two, three, four, five, six, seven, eight, nine"),
        "number": _list(
            "two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, thirteen, fourteen, fifteen, "
            "sixteen, seventeen, eighteen, nineteen, twenty, thirty, forty, fifty, sixty, seventy, eighty, ninety"
        ),
        "bignumber": _list("{digit} hundred, {digit} thousand, {number}, a million"),
        "city": _list("paris, london, berlin, madrid, rome, vienna, boston, chicago, dublin, lisbon, oslo, cairo"),
        "shop": _list(
            "station, airport, museum, library, market, hospital, bakery, bank, school, theatre, church, bridge, "
            "hotel, restaurant, pharmacy, stadium, castle"
        ),
        "open": _list("open, close"),
        "opens": _list("opens, closes"),
        "vehicle": _list("train, bus, ferry, plane, taxi, tram, boat"),
        "weather": _list("sunny, rainy, cloudy, windy, foggy, cold, warm, dry, stormy, freezing"),
        "storm": _list("thunder, snow, frost, rain, hail"),
        "meal": _list("breakfast, lunch, dinner, supper"),
        "food": _list(
            "bread, butter, cheese, honey, soup, rice, chicken, salad, fish, sugar, pepper, salt, juice, milk, "
            "coffee, tea, cake, chocolate"
        ),
        "plural": _list("apples, carrots, onions, potatoes, eggs, oranges, beans, grapes, lemons"),
        "taste": _list("sweet, bitter, sour, fresh, delicious, awful"),
        "colour": _list("red, blue, green, yellow, brown, white, black, grey, silver"),
        "quality": _list("old, new, heavy, empty, tiny, huge, dirty, expensive, cheap, strange"),
        "thing": _list(
            "umbrella, jacket, scarf, suitcase, wallet, phone, camera, bicycle, letter, parcel, newspaper, blanket, "
            "mirror, ladder, hammer, basket, bottle, candle, key, watch"
        ),
        "furniture": _list("table, chair, sofa, shelf, cupboard, carpet, bench, pillow, bed, desk"),
        "animal": _list("dog, cat, horse, rabbit, goose, sheep, parrot, fox, spider"),
        "nature": _list("river, forest, mountain, valley, beach, field, island, lake, park"),
        "manner": _list("quickly, quietly, slowly, gently, loudly"),
        "plays": _list("plays, played"),
        "instrument": _list("piano, guitar, violin, flute, trumpet"),
        "music": _list("jazz, folk, classical, rock"),
        "subject": _list("history, physics, biology, geography, music"),
        "topic": _list("the {topic_noun}, {subject}, {food}, the weather"),
        "topic_noun": _list("meeting, wedding, party, concert, game, journey, holiday"),
        "ache": _list("headache, fever, cough, toothache"),
        "ache_time": _list("again, since {day}, every {season}"),
        "body": _list("arm, shoulder, knee, finger, foot, back, neck"),
        "job": _list("teacher, nurse, farmer, lawyer, plumber, pilot, waiter, painter, dentist"),
        "feeling": _list("happy, sad, angry, tired, hungry, thirsty, nervous, proud"),
        "side": _list("left, right"),
    },
)

GERMAN = Grammar(
    templates=_list(
        """
        schalte {device} {room} ein, schalte {device} {room} aus, bitte {repair} {device} {soon},
        ist {device_is} {room} {state}, {device_is} {room} ist {state}, wer hat {device} {broken},
        stelle {device} auf {number} grad, wecke mich um {clock}, erinnere mich {future} an {thing},
        rufe {person} an und frage nach {city}, schicke {person_to} eine nachricht,
        lies mir die nachricht von {name} vor, wann öffnet {shop_is} {future}, {shop_is} schließt um {clock},
        hat {shop_is} am {day} geöffnet, wie weit ist {city} von {city} entfernt,
        {vehicle_is} nach {city} fährt um {clock}, wann kommt {vehicle_is} in {city} an,
        ich brauche {number} fahrkarten nach {city}, {vehicle_is} aus {city} hat {number} minuten verspätung,
        nimm {vehicle} zum {shop_to}, wir sind im {month} nach {city} geflogen, {name} zog im {month} nach {city},
        {name} wohnt seit {month} in {city}, wird es {future} in {city} {weather}, {past} war es in {city} {weather},
        am {day} gibt es {storm} in {city}, {storm} und {storm} kommen {future}, der {season} in {city} war {weather},
        setze {food} und {food} auf die liste, wir haben noch {number} {plural} und {food},
        haben wir {soon} noch {food}, {person_is} möchte {meal} mit {food}, ich hatte {past} {meal} mit {name},
        kaufe {number} {plural} und {number} {plural}, {name} kochte {past} {food} mit {plural},
        {food} schmeckt heute {taste}, die {plural} waren {taste} und {taste}, wo hast du {thing} hingelegt,
        ich habe {thing} in {city} verloren, {name} hat {past} {thing} gekauft, {thing_is} gehört {person_to},
        lege {thing} unter {furniture}, hinter {furniture_at} liegt {thing_is}, {furniture_is} ist zu {quality},
        {name} streicht {furniture} {colour}, putze {furniture} {room}, {animal_is} schläft auf {furniture_at},
        {name} sah {animal} beim {shop_to}, {animal_is} hat angst vor {storm},
        {animal_is} lief {manner} durch {nature}, wir gingen {manner} durch {nature},
        {nature_is} ist im {season} {colour}, {person_is} spielt {manner} {instrument},
        {name} lernt {future} {instrument}, {relative_is} unterrichtet {subject} in {city},
        {name} hat {number} jahre {subject} studiert, {subject} beginnt um {clock},
        die prüfung in {subject} ist am {day}, {relative_is} hat {soon} {ache}, die ärztin kommt um {clock},
        nimm {number} löffel vor dem {meal_at}, {body} tut mir seit {day} weh, {person_is} hat {past} {ache},
        wasche dir {body_acc} mit warmem wasser, {name} arbeitet als {job}, der {job} kam um {clock} an,
        frage {name} nach dem {job}, {name} ist {number} jahre alt, unsere hausnummer ist {number},
        das kostet {bignumber} euro, {shop_is} hat {bignumber} besucher, nur {number} von ihnen waren {feeling},
        warum bist du {soon} so {feeling}, {person_is} war {past} {feeling}, ich bin wegen {topic} {feeling},
        wir sprachen {manner} über {city}, spiele etwas {music} {room}, {person_is} liebt {music},
        alles gute zum geburtstag liebe {relative_f}, guten {daytime} {name} wie geht es dir,
        wir sehen uns am {day} beim {shop_to}, ich treffe {person} um {clock}, vergiss {soon} {thing} nicht,
        wir können {thing} nirgends finden, es ist {number} minuten nach {hour}, fahre {manner} durch {nature},
        biege beim {shop_to} {side} ab, {shop_is} liegt {side} von {city},
        schreibe {digit} {digit} {digit} {digit} auf, der code lautet {digit} {digit} {digit}
        """
    ),
    slots={
        "name": _list(
            "anna, björn, clara, david, emma, frank, georg, helene, ivan, julia, jörg, käthe, laura, martin, nora, "
            "oliver, peter, simon, thomas, ursula, günther, zoe"
        ),
        "relative_f": _list("mutter, schwester, tante, großmutter, freundin, tochter, kollegin"),
        "relative_m": _list("vater, bruder, onkel, großvater, freund, sohn, nachbar"),
        "relative_is": ("meine {relative_f}", "mein {relative_m}"),
        "person": ("{name}", "{name}", "meine {relative_f}"),
        "person_is": ("{name}", "{name}", "{relative_is}"),
        "person_to": ("{name}", "{name}", "meiner {relative_f}", "meinem {relative_m}"),
        "room": _list(
            "in der küche, im schlafzimmer, im bad, in der garage, im keller, im flur, im garten, im büro, "
            "im wohnzimmer"
        ),
        "device_m": _list("ofen, wecker, drucker, rechner, fernseher"),
        "device_f": _list("lampe, heizung, waschmaschine, klingel"),
        "device": ("den {device_m}", "die {device_f}", "das radio"),
        "device_is": ("der {device_m}", "die {device_f}", "das radio"),
        "repair": _list("prüfe, starte, repariere, hole, öffne"),
        "state": _list("an, aus, kaputt, fertig, heiß, bereit"),
        "broken": _list("zerstört, repariert, benutzt"),
        "soon": _list("jetzt, wieder, später, sofort, gerade"),
        "future": _list("heute, morgen, heute abend, nächste woche, übermorgen"),
        "past": _list("gestern, vorgestern, letzte nacht, letzte woche, am {day}"),
        "day": _list("montag, dienstag, mittwoch, donnerstag, freitag, samstag, sonntag"),
        "month": _list("januar, februar, märz, april, mai, juni, juli, august, september, oktober, november, dezember"),
        "season": _list("frühling, sommer, herbst, winter"),
        "daytime": _list("morgen, tag, abend"),
        "hour": _list("eins, zwei, drei, vier, fünf, sechs, sieben, acht, neun, zehn, elf, zwölf"),
        "clock": _list("{hour}, halb {hour}, viertel vor {hour}, viertel nach {hour}, mitternacht"),
        "digit": _list("null, eins, zwei, drei, vier, fünf, sechs, sieben, acht, neun"),
        "number": _list(
            "zwei, drei, vier, fünf, sechs, sieben, acht, neun, zehn, elf, zwölf, dreizehn, vierzehn, fünfzehn, "
            "sechzehn, siebzehn, achtzehn, neunzehn, zwanzig, dreißig, vierzig, fünfzig, sechzig, siebzig, achtzig, "
            "neunzig"
        ),
        "bignumber": _list("{number}, hundert, tausend, zweihundert, dreitausend, fünfhundert"),
        "city": _list("paris, london, berlin, madrid, rom, wien, köln, münchen, zürich, hamburg, oslo, kairo"),
        "shop_m": _list("bahnhof, flughafen, markt, bäcker, friseur"),
        "shop_n": _list("museum, krankenhaus, theater, hotel, schloss, rathaus"),
        "shop_to": ("{shop_m}", "{shop_n}"),
        "shop_is": ("der {shop_m}", "das {shop_n}", "die {shop_f}"),
        "shop_f": _list("bücherei, apotheke, schule, kirche, bank"),
        "vehicle": ("den zug", "den bus", "das taxi", "die fähre", "das schiff", "die straßenbahn"),
        "vehicle_is": ("der zug", "der bus", "das taxi", "die fähre", "das schiff", "die straßenbahn"),
        "weather": _list("sonnig, regnerisch, bewölkt, windig, kalt, warm, trocken, stürmisch, schwül"),
        "storm": _list("donner, schnee, frost, regen, nebel"),
        "meal": _list("frühstück, mittagessen, abendessen"),
        "meal_at": _list("frühstück, mittagessen, abendessen, schlafen"),
        "food": _list(
            "brot, butter, käse, honig, suppe, reis, hähnchen, salat, fisch, zucker, salz, saft, milch, kaffee, "
            "tee, kuchen, gemüse, schokolade"
        ),
        "plural": _list("äpfel, möhren, zwiebeln, kartoffeln, eier, orangen, bohnen, trauben, nüsse"),
        "taste": _list("süß, bitter, sauer, frisch, köstlich, scheußlich"),
        "colour": _list("rot, blau, grün, gelb, braun, weiß, schwarz, grau, silbern"),
        "quality": _list("alt, neu, schwer, leer, groß, schmutzig, teuer, schön, seltsam"),
        "thing_m": _list("regenschirm, schal, koffer, brief, spiegel, hammer, korb, schlüssel"),
        "thing_f": _list("jacke, geldbörse, kamera, zeitung, decke, leiter, flasche, kerze, tüte"),
        "thing_n": _list("telefon, fahrrad, paket, heft, buch"),
        "thing": ("den {thing_m}", "meine {thing_f}", "das {thing_n}"),
        "thing_is": ("der {thing_m}", "die {thing_f}", "mein {thing_n}"),
        "furniture_m": _list("tisch, stuhl, schrank, teppich"),
        "furniture_f": _list("truhe, bank, kommode"),
        "furniture_n": _list("sofa, regal, kissen, bett"),
        "furniture": ("den {furniture_m}", "die {furniture_f}", "das {furniture_n}"),
        "furniture_is": ("der {furniture_m}", "die {furniture_f}", "das {furniture_n}"),
        "furniture_at": ("dem {furniture_m}", "der {furniture_f}", "dem {furniture_n}"),
        "animal_m": _list("hund, vogel, papagei, fuchs"),
        "animal_f": _list("katze, gans, spinne, maus, kuh"),
        "animal": ("einen {animal_m}", "eine {animal_f}"),
        "animal_is": ("der {animal_m}", "die {animal_f}"),
        "nature_m": _list("fluss, wald, park"),
        "nature_n": _list("tal, feld, dorf, gebirge"),
        "nature_f": _list("wiese, wüste, straße"),
        "nature": ("den {nature_m}", "das {nature_n}", "die {nature_f}"),
        "nature_is": ("der {nature_m}", "das {nature_n}", "die {nature_f}"),
        "manner": _list("schnell, leise, langsam, vorsichtig, sanft, laut, fröhlich"),
        "instrument": _list("klavier, gitarre, geige, flöte, trompete, schlagzeug"),
        "music": _list("jazz, volksmusik, klassik"),
        "subject": _list("geschichte, physik, biologie, erdkunde, musik, französisch"),
        "topic": _list("der sitzung, der hochzeit, des konzerts, der reise"),
        "ache": _list("kopfschmerzen, fieber, husten, zahnschmerzen"),
        "body": _list("der arm, die schulter, das knie, der finger, der fuß, der rücken, der hals"),
        "body_acc": _list("den arm, das knie, die füße, den rücken, die hände"),
        "job": _list("lehrer, pfleger, schreiner, anwalt, klempner, förster, kellner, maler, gärtner"),
        "feeling": _list("glücklich, traurig, wütend, müde, hungrig, durstig, nervös, stolz"),
        "side": _list("links, rechts"),
    },
)
