"""Grammars of two English-German domains: weather notes between friends, and messages of a clinic to patients.

The notes use du and ihr, the clinic uses Sie. Some English words are translated differently: pressure is Luftdruck or
Blutdruck, shower is Schauer or Dusche, cold is kalt or Erkältung, temperature is Temperatur or Fieber, heavy is stark
or schwer, light is leicht or Licht. `adapt.data.synthetic.bilingual` describes the format of tables and templates. All
sentences were written for this project.
"""

from adapt.data.synthetic.bilingual import BilingualGrammar, table, templates

_SHARED = {
    "day": table(
        """Monday | Montag; Tuesday | Dienstag; Wednesday | Mittwoch; Thursday | Donnerstag; Friday | Freitag;
        Saturday | Samstag; Sunday | Sonntag"""
    ),
    "month": table(
        """January | Januar; February | Februar; March | März; April | April; May | Mai; June | Juni; July | Juli;
        August | August; September | September; October | Oktober; November | November; December | Dezember"""
    ),
    "date": table("".join(f"{number} {{month}} | {number}. {{month}};" for number in range(1, 29))),
    "number": table(
        """two | zwei; three | drei; four | vier; five | fünf; six | sechs; seven | sieben; eight | acht; nine | neun;
        ten | zehn; eleven | elf; twelve | zwölf"""
    ),
    "tens": table(
        "ten | zehn; fifteen | fünfzehn; twenty | zwanzig; thirty | dreißig; forty | vierzig; fifty | fünfzig"
    ),
    "when": table(
        """today | heute; tomorrow | morgen; this morning | heute Morgen; this afternoon | heute Nachmittag;
        this evening | heute Abend; tomorrow morning | morgen früh; tomorrow afternoon | morgen Nachmittag;
        tomorrow evening | morgen Abend; on {day} | am {day}; on {day} morning | am {day}morgen;
        on {day} afternoon | am {day}nachmittag; on {day} evening | am {day}abend; next week | nächste Woche;
        at the weekend | am Wochenende; the day after tomorrow | übermorgen"""
    ),
    "past": table(
        """yesterday | gestern; last night | letzte Nacht; on {day} | am {day}; last week | letzte Woche;
        the day before yesterday | vorgestern; yesterday morning | gestern Morgen; last month | letzten Monat"""
    ),
    "clothing": table(
        """jacket | die Jacke; coat | der Mantel; scarf | der Schal; cap | die Mütze; hat | der Hut;
        jumper | der Pullover; shirt | das Hemd; waistcoat | die Weste; cardigan | die Strickjacke"""
    ),
    "relative": table(
        """mother | die Mutter; father | der Vater; sister | die Schwester; brother | der Bruder; aunt | die Tante;
        uncle | der Onkel; daughter | die Tochter; son | der Sohn; wife | die Frau; husband | der Mann"""
    ),
}

WEATHER = BilingualGrammar(
    templates=templates(
        """
        It's going to be {sky} {area} {when}.
        | Es wird {when} {area} {sky}.
        Will it be {sky} {area} {when}?
        | Wird es {when} {area} {sky}?
        It was {sky} {area} {past}.
        | {past} war es {area} {sky}.
        It's {compared} {area} than {past}.
        | {area} ist es {compared} als {past}.
        In {month} it's often {sky} {area}.
        | Im {month} ist es {area} oft {sky}.
        {when}: {sky} and {sky2}, up to {degrees} degrees.
        | {when}: {sky} und {sky2}, bis zu {degrees} Grad.
        It's {degrees} degrees {area} right now.
        | {area} sind es gerade {degrees} Grad.
        Hey {name}, how's the weather {area}?
        | Hey {name}, wie ist das Wetter {area}?
        According to the {source}, it'll be {sky} {area} from {clock}.
        | Laut {source} wird es {area} ab {clock} {sky}.
        The temperature {moves} to {degrees} degrees {when}.
        | Die Temperatur {moves} {when} auf {degrees} Grad.
        The pressure {area} {moves} {when}.
        | Der Luftdruck {area} {moves} {when}.
        There'll be {rain_adj} {rain} {area} from {clock}.
        | Ab {clock} gibt es {area} {-en rain_adj rain}.
        Expect {rain_adj} {rain} {area} {when}, {name}.
        | Rechne {when} {area} mit {-em rain_adj rain}, {name}.
        You two, expect {rain_adj} {rain} {when}.
        | Ihr zwei, rechnet {when} mit {-em rain_adj rain}.
        After the {rain_adj} {rain} it was {sky} {area}.
        | Nach {dem rain_adj rain} war es {area} {sky}.
        A {wind_adj} {wind} is coming from the {compass}.
        | Aus {compass} kommt {ein wind_adj wind}.
        The {wind_adj} {wind} has been blowing {area} since {day}.
        | {der wind_adj wind} weht {area} seit {day}.
        Can you feel the {wind_adj} {wind} from the {compass}?
        | Spürst du {den wind_adj wind} aus {compass}?
        A {front} is coming {when}.
        | {when} kommt {ein front}.
        A {front} from the {compass} is moving over the {landmark}.
        | {ein front} aus {compass} zieht über {den landmark}.
        After the {front} on {day} it'll get {sky}.
        | Nach {dem front} am {day} wird es {sky}.
        It's going to {fall} {area} {when}.
        | Es wird {when} {area} {fall}.
        Do you think it'll {fall} {area} {when}?
        | Glaubst du, dass es {when} {area} {fall.es}?
        Do you two think it'll {fall} {when}?
        | Glaubt ihr zwei, dass es {when} {fall.es}?
        It hasn't {fall.done} {area} since {day}.
        | {area} hat es seit {day} nicht {fall.getan}.
        If it {fall.s} {when}, we'll stay in the {shelter}.
        | Wenn es {when} {fall.es}, bleiben wir {im shelter}.
        It's been {fall.ing} {area} since {clock}.
        | {area} {fall.es} es seit {clock}.
        The sun {sun} at {clock} on {day}.
        | Die Sonne geht am {day} um {clock} {sun}.
        The forecast warns of {hazard} {area} {when}.
        | Der Wetterbericht warnt {when} {area} vor {hazard}.
        {name} says the {trail} is closed because of {hazard}.
        | {name} sagt, dass {der trail} wegen {hazard} gesperrt ist.
        Watch out for {hazard} on the {trail}, {name}.
        | Achte auf {dem trail} auf {hazard}, {name}.
        You two, watch out for {hazard} on the {trail}.
        | Ihr zwei, achtet auf {dem trail} auf {hazard}.
        Be careful, the {trail} is {ground} {event}.
        | Pass auf, {der trail} ist {event} {ground}.
        Was the {trail} {ground} {event} too?
        | War {der trail} {event} auch {ground}?
        We lost the {ground} {trail} in the fog.
        | Wir haben {den ground trail} im Nebel verloren.
        Follow the {trail} to the {spot}, then turn {side}.
        | Folge {dem trail} bis {zum spot} und bieg dann {side} ab.
        The snow on the {trail} is {number} centimetres deep.
        | Der Schnee auf {dem trail} ist {number} Zentimeter tief.
        Don't cross the {water} {event}, {name}.
        | Überquere {event} {den water} nicht, {name}.
        The {water} is {level} {event}.
        | {der water} ist {event} {level}.
        Take your {gear} with you, there might be {rain}.
        | Nimm {deinen gear} mit, vielleicht gibt es {-en rain}.
        Don't forget your {gear} {when}, {name}.
        | Vergiss {when} {deinen gear} nicht, {name}.
        Have you {handled} your {gear}, {name}?
        | Hast du {deinen gear} {handled}, {name}?
        {name} {handled.past} a {colour} {gear} {past}.
        | {name} hat {past} {einen colour gear} {handled}.
        Where did you put my {colour} {gear}?
        | Wo hast du {meinen colour gear} hingelegt?
        Can you lend me your {gear} {when}?
        | Kannst du mir {when} {deinen gear} leihen?
        Thanks for the {gear}, I'll bring it back {when}.
        | Danke für {den gear}, ich bringe {ihn gear} {when} zurück.
        Is that your {colour} {gear}? I found it at the {spot}.
        | Ist das {dein colour gear}? Ich habe {ihn gear} {am spot} gefunden.
        My {gear} isn't here, it's in the {shelter}.
        | {mein gear} ist nicht hier, {er gear} ist {im shelter}.
        Put on your {colour} {clothing}, it's {sky}.
        | Zieh {deinen colour clothing} an, es ist {sky}.
        You'll be cold without your {clothing} {when}.
        | Ohne {deinen clothing} wird dir {when} kalt.
        Only {number} degrees: you need a {adj} {clothing}.
        | Nur {number} Grad: Du brauchst {einen adj clothing}.
        We're meeting at the {spot} at {clock} {when}.
        | Wir treffen uns {when} um {clock} {am spot}.
        I'll wait for you at the {spot} until {clock}.
        | Ich warte bis {clock} {am spot} auf dich.
        I'll wait for you two at the {spot} {when}.
        | Ich warte {when} {am spot} auf euch.
        Call me when you're at the {spot}, {name}.
        | Ruf mich an, wenn du {am spot} bist, {name}.
        Are you two coming along to the {spot} {when}?
        | Kommt ihr zwei {when} mit {zum spot}?
        From the {spot} you can see the {landmark}.
        | {vom spot} aus kannst du {den landmark} sehen.
        The clouds over the {landmark} look {cloud}.
        | Die Wolken über {dem landmark} sehen {cloud} aus.
        Look, a {sight} over the {landmark}!
        | Schau, {ein sight} über {dem landmark}!
        Did you see the {sight} over the {landmark} {past}?
        | Hast du {past} {den sight} über {dem landmark} gesehen?
        Did you two see a {sight} {past}?
        | Habt ihr zwei {past} {einen sight} gesehen?
        Do you want to {hobby} {when}?
        | Willst du {when} {hobby}?
        Would you two like to {hobby} {when}?
        | Wollt ihr zwei {when} {hobby}?
        It's too {sky} to {hobby} {when}.
        | {when} ist es zu {sky}, um {hobby.zu}.
        My {relative} and I want to {hobby} when it's {sky}.
        | {mein relative} und ich wollen {hobby}, wenn es {sky} ist.
        {advice}, {name}, it'll be {sky} {when}.
        | {advice.du}, {name}, es wird {when} {sky}.
        You two, {advice}, a {front} is coming.
        | Ihr zwei, {advice.ihr}, es kommt {ein front}.
        You should {advice} when it's {sky}.
        | Du solltest {advice.inf}, wenn es {sky} ist.
        I love {nice} {dayname+} in {month}.
        | Ich liebe {-e nice dayname+} im {month}.
        What a {nice} {dayname}, {name}!
        | Was für {ein nice dayname}, {name}!
        We had a {nice} {dayname} at the {spot}.
        | Wir hatten {einen nice dayname} {am spot}.
        Have a {nice} {dayname}, you two!
        | Habt {einen nice dayname}, ihr zwei!
        The {dayname+} in the {shelter} were {sky}.
        | Die {dayname+} {im shelter} waren {sky}.
        """
    ),
    tables=_SHARED
    | {
        "name": table(
            """Anna | Anna; Ben | Ben; Clara | Clara; Emma | Emma; Felix | Felix; Jonas | Jonas; Julia | Julia;
            Lena | Lena; Lukas | Lukas; Mia | Mia; Nina | Nina; Paul | Paul; Sophie | Sophie; Tim | Tim; Tom | Tom"""
        ),
        "clock": table(
            "".join(f"{hour} o'clock | {hour} Uhr; {hour}:30 | {hour}:30 Uhr;" for hour in range(5, 12))
            + "noon | zwölf Uhr mittags; midnight | Mitternacht"
        ),
        "degrees": table(
            """two | zwei; four | vier; six | sechs; eight | acht; ten | zehn; twelve | zwölf; fifteen | fünfzehn;
            eighteen | achtzehn; twenty | zwanzig; twenty-two | zweiundzwanzig; twenty-five | fünfundzwanzig;
            thirty | dreißig"""
        ),
        "city": table(
            """Munich | München; Cologne | Köln; Vienna | Wien; Zurich | Zürich; Hamburg | Hamburg; Salzburg | Salzburg;
            Geneva | Genf; Prague | Prag; Lucerne | Luzern; Nuremberg | Nürnberg; Innsbruck | Innsbruck;
            Basel | Basel"""
        ),
        "area": table(
            """in {city} | in {city}; in {city} | in {city}; in the Alps | in den Alpen; on the coast | an der Küste;
            in the Black Forest | im Schwarzwald; in the mountains | in den Bergen; in the {compass} | im {compass};
            by the lake | am See; up here | hier oben; down in the valley | unten im Tal; in the hills | im Hügelland;
            on the islands | auf den Inseln; in the forest | im Wald; out at sea | draußen auf dem Meer"""
        ),
        "compass": table("north | Norden; south | Süden; east | Osten; west | Westen"),
        "sky": table(
            """cold | kalt; warm | warm; hot | heiß; sunny | sonnig; cloudy | bewölkt; windy | windig; foggy | neblig;
            stormy | stürmisch; dry | trocken; wet | nass; humid | schwül; mild | mild; frosty | frostig; clear | klar;
            rainy | regnerisch; icy | eisig; grey | grau; gusty | böig; dark | dunkel; calm | ruhig; hazy | dunstig"""
        ),
        "compared": table(
            """colder | kälter; warmer | wärmer; hotter | heißer; windier | windiger; drier | trockener;
            wetter | nasser; darker | dunkler; brighter | heller; calmer | ruhiger; milder | milder"""
        ),
        "moves": table("drops | fällt; rises | steigt; sinks | sinkt; climbs | klettert"),
        "source": table(
            """app | App; radio | Radio; newspaper | Zeitung; forecast | Wetterbericht; weather map | Wetterkarte;
            weather station | Wetterstation"""
        ),
        "rain": table(
            """rain | der Regen; snow | der Schnee; hail | der Hagel; drizzle | der Nieselregen;
            sleet | der Schneeregen; snowfall | der Schneefall; freezing rain | der Eisregen"""
        ),
        "rain_adj": table(
            """heavy | stark; light | leicht; steady | anhaltend; sudden | plötzlich; brief | kurz; early | früh"""
        ),
        "wind": table(
            """wind | der Wind; breeze | die Brise; gale | der Sturm; sea wind | der Seewind;
            air current | die Luftströmung"""
        ),
        "wind_adj": table(
            """strong | stark; light | leicht; gentle | sanft; icy | eisig; cold | kalt; warm | warm; fresh | frisch;
            unpleasant | unangenehm; biting | beißend; damp | feucht"""
        ),
        "front": table(
            """cold front | die Kaltfront; warm front | die Warmfront; storm | der Sturm; shower | der Schauer;
            thunderstorm | das Gewitter; high | das Hoch; low | das Tief; blizzard | der Schneesturm;
            hailstorm | der Hagelsturm; dry spell | die Trockenphase; cold spell | die Kälteperiode;
            heatwave | die Hitzewelle; bank of fog | die Nebelbank; cloudburst | der Wolkenbruch"""
        ),
        "fall": table(
            """rain | rains | raining | rained | regnen | regnet | geregnet;
            snow | snows | snowing | snowed | schneien | schneit | geschneit;
            hail | hails | hailing | hailed | hageln | hagelt | gehagelt;
            thunder | thunders | thundering | thundered | donnern | donnert | gedonnert;
            drizzle | drizzles | drizzling | drizzled | nieseln | nieselt | genieselt;
            pour | pours | pouring | poured | gießen | gießt | gegossen;
            blow a gale | blows a gale | blowing a gale | blown a gale | stürmen | stürmt | gestürmt""",
            "en s ing done de es getan",
        ),
        "sun": table("rises | auf; sets | unter; comes up | auf; goes down | unter"),
        "hazard": table(
            """ice | Eis; black ice | Glatteis; snow | Schnee; fog | Nebel; flooding | Hochwasser;
            rockfall | Steinschlag; avalanches | Lawinen; gusts | Böen; scree | Geröll; mud | Schlamm; frost | Frost"""
        ),
        "trail": table(
            """path | der Weg; road | die Straße; trail | der Wanderweg; ridge | der Grat; pass | der Pass;
            slope | der Hang; track | der Pfad; ski run | die Piste; meadow | die Wiese; glacier | der Gletscher;
            climb | der Aufstieg; steps | die Treppe; cycle path | der Radweg; ice field | das Eisfeld"""
        ),
        "ground": table(
            """slippery | rutschig; muddy | schlammig; icy | vereist; snowy | verschneit; wet | nass; steep | steil;
            narrow | schmal; dangerous | gefährlich; flooded | überflutet; frozen | gefroren; dusty | staubig"""
        ),
        "event": table(
            """after the rain | nach dem Regen; after the storm | nach dem Sturm; after the snow | nach dem Schnee;
            after the thunderstorm | nach dem Gewitter; after the frost | nach dem Frost; in winter | im Winter;
            in spring | im Frühling; in autumn | im Herbst; in summer | im Sommer; at night | nachts;
            during the thaw | bei Tauwetter"""
        ),
        "side": table("left | links; right | rechts"),
        "spot": table(
            """hut | die Hütte; station | der Bahnhof; car park | der Parkplatz; bridge | die Brücke; lake | der See;
            campsite | der Zeltplatz; crossroads | die Kreuzung; spring | die Quelle; waterfall | der Wasserfall;
            cable car | die Seilbahn; bus stop | die Haltestelle; signpost | der Wegweiser; chapel | die Kapelle;
            harbour | der Hafen; beach | der Strand; castle ruin | die Burgruine; gate | das Tor; well | der Brunnen"""
        ),
        "water": table(
            """river | der Fluss; stream | der Bach; lake | der See; ford | die Furt; moor | das Moor; pond | der Teich;
            gorge | die Schlucht; marsh | der Sumpf; canal | der Kanal; reservoir | der Stausee"""
        ),
        "level": table(
            """calm | ruhig; deep | tief; wild | wild; frozen | zugefroren; dangerous | gefährlich; cold | kalt;
            beautiful | schön; muddy | schlammig; dry | ausgetrocknet"""
        ),
        "gear": table(
            """umbrella | der Schirm; tent | das Zelt; sleeping bag | der Schlafsack; rucksack | der Rucksack;
            map | die Karte; compass | der Kompass; torch | die Taschenlampe; rope | das Seil;
            water bottle | die Flasche; helmet | der Helm; knife | das Messer; sledge | der Schlitten;
            blanket | die Decke; stove | der Kocher; camera | die Kamera; rain cape | das Regencape;
            thermos flask | die Thermoskanne; bike | das Rad; walking stick | der Wanderstock; whistle | die Pfeife"""
        ),
        "handled": table(
            """packed | packed | eingepackt; found | found | gefunden; lost | lost | verloren;
            forgotten | forgot | vergessen; dried | dried | getrocknet; brought along | brought along | mitgebracht;
            bought | bought | gekauft; mended | mended | geflickt; cleaned | cleaned | geputzt""",
            "en past de",
        ),
        "colour": table(
            """red | rot; blue | blau; green | grün; yellow | gelb; white | weiß; black | schwarz; grey | grau;
            brown | braun; old | alt; new | neu"""
        ),
        "adj": table(
            "thick | dick; warm | warm; dry | trocken; light | leicht; waterproof | wasserdicht; soft | weich"
        ),
        "shelter": table(
            """hut | die Hütte; tent | das Zelt; car | das Auto; guesthouse | die Pension; barn | die Scheune;
            cave | die Höhle; cellar | der Keller; garage | die Garage; kitchen | die Küche; attic | der Dachboden;
            boathouse | das Bootshaus; cabin | die Kabine"""
        ),
        "landmark": table(
            """mountain | der Berg; lake | der See; valley | das Tal; forest | der Wald; summit | der Gipfel;
            glacier | der Gletscher; village | das Dorf; island | die Insel; church tower | der Kirchturm;
            sea | das Meer; coast | die Küste; town | die Stadt; hill | der Hügel; vineyard | der Weinberg"""
        ),
        "cloud": table(
            """dark | dunkel; threatening | bedrohlich; strange | seltsam; beautiful | schön; harmless | harmlos;
            heavy | schwer; white | weiß; dramatic | dramatisch; black | schwarz"""
        ),
        "sight": table(
            """rainbow | der Regenbogen; eagle | der Adler; flash of lightning | der Blitz; balloon | der Ballon;
            kite | der Drachen; helicopter | der Hubschrauber; falling star | die Sternschnuppe;
            glider | das Segelflugzeug; flock of birds | der Vogelschwarm; rain cloud | die Regenwolke;
            sunset | der Sonnenuntergang; whirlwind | der Wirbelwind"""
        ),
        "hobby": table(
            """go hiking | wandern gehen | wandern zu gehen; climb | klettern | zu klettern;
            ski | Ski fahren | Ski zu fahren; cycle | Rad fahren | Rad zu fahren; camp | zelten | zu zelten;
            go for a walk | spazieren gehen | spazieren zu gehen; go fishing | angeln gehen | angeln zu gehen;
            go sledging | Schlitten fahren | Schlitten zu fahren; go sailing | segeln gehen | segeln zu gehen;
            have a barbecue | grillen | zu grillen; sleep outside | draußen schlafen | draußen zu schlafen;
            sit in the garden | im Garten sitzen | im Garten zu sitzen; swim | schwimmen | zu schwimmen;
            go skating | Schlittschuh laufen | Schlittschuh zu laufen;
            pick berries | Beeren pflücken | Beeren zu pflücken; gather mushrooms | Pilze sammeln | Pilze zu sammeln;
            fly a kite | Drachen steigen lassen | Drachen steigen zu lassen""",
            "en de zu",
        ),
        "advice": table(
            """drink enough water | trink genug Wasser | trinkt genug Wasser | genug Wasser trinken;
            stay in the shade | bleib im Schatten | bleibt im Schatten | im Schatten bleiben;
            drive slowly | fahr langsam | fahrt langsam | langsam fahren;
            close the windows | mach die Fenster zu | macht die Fenster zu | die Fenster zumachen;
            stay at home | bleib zu Hause | bleibt zu Hause | zu Hause bleiben;
            take a break | mach eine Pause | macht eine Pause | eine Pause machen;
            turn back in time | kehr rechtzeitig um | kehrt rechtzeitig um | rechtzeitig umkehren;
            set off early | geh früh los | geht früh los | früh losgehen;
            pack dry socks | pack trockene Socken ein | packt trockene Socken ein | trockene Socken einpacken;
            cover the bikes | deck die Räder ab | deckt die Räder ab | die Räder abdecken;
            bring in the washing | hol die Wäsche herein | holt die Wäsche herein | die Wäsche hereinholen;
            water the plants | gieß die Pflanzen | gießt die Pflanzen | die Pflanzen gießen;
            wear sunglasses | trag eine Sonnenbrille | tragt eine Sonnenbrille | eine Sonnenbrille tragen;
            keep the dog inside | lass den Hund drinnen | lasst den Hund drinnen | den Hund drinnen lassen;
            light a fire | mach ein Feuer an | macht ein Feuer an | ein Feuer anmachen;
            look at the map | schau auf die Karte | schaut auf die Karte | auf die Karte schauen""",
            "en du ihr inf",
        ),
        "nice": table(
            """sunny | sonnig; cool | kühl; quiet | ruhig; wonderful | wunderbar; mild | mild; foggy | neblig;
            beautiful | schön; rainy | verregnet; clear | klar; lovely | herrlich; long | lang; frosty | frostig;
            dark | dunkel | dunkl"""
        ),
        "dayname": table(
            """day/days | der Tag/Tage; morning/mornings | der Morgen/Morgen; evening/evenings | der Abend/Abende;
            night/nights | die Nacht/Nächte; afternoon/afternoons | der Nachmittag/Nachmittage;
            week/weeks | die Woche/Wochen; weekend/weekends | das Wochenende/Wochenenden;
            holiday/holidays | der Urlaub/Urlaube"""
        ),
    },
)

_MORNING = table("".join(f"{hour} am | {hour} Uhr; {hour}:30 am | {hour}:30 Uhr;" for hour in range(8, 12)))
_AFTERNOON = table("".join(f"{hour} pm | {hour + 12} Uhr; {hour}:15 pm | {hour + 12}:15 Uhr;" for hour in range(1, 6)))
_ONCE = table(
    """take a shower | take a shower | nehmen Sie | eine Dusche | eine Dusche nehmen;
    switch off your phone | switch off your phone | schalten Sie | Ihr Handy aus | Ihr Handy ausschalten;
    wash your hands | wash your hands | waschen Sie | Ihre Hände | Ihre Hände waschen;
    take off your jewellery | take off your jewellery | legen Sie | Ihren Schmuck ab | Ihren Schmuck ablegen;
    leave the light on | leave the light on | lassen Sie | das Licht an | das Licht anlassen;
    drink a glass of water | drink a glass of water | trinken Sie | ein Glas Wasser | ein Glas Wasser trinken""",
    "en should sie rest inf",
)
_LASTING = table(
    """do not eat anything | not eat anything | essen Sie | nichts | nichts essen;
    drink plenty of water | drink plenty of water | trinken Sie | viel Wasser | viel Wasser trinken;
    do not smoke | not smoke | rauchen Sie | nicht | nicht rauchen;
    do not drink alcohol | not drink alcohol | trinken Sie | keinen Alkohol | keinen Alkohol trinken;
    avoid heavy meals | avoid heavy meals | vermeiden Sie | schwere Mahlzeiten | schwere Mahlzeiten vermeiden;
    eat only light meals | eat only light meals | essen Sie | nur leichte Mahlzeiten | nur leichte Mahlzeiten essen;
    do not drive | not drive | fahren Sie | kein Auto | kein Auto fahren;
    wear loose clothes | wear loose clothes | tragen Sie | lockere Kleidung | lockere Kleidung tragen;
    keep calm | keep calm | bleiben Sie | ruhig | ruhig bleiben;
    do not do any sport | not do any sport | treiben Sie | keinen Sport | keinen Sport treiben;
    stay in bed | stay in bed | bleiben Sie | im Bett | im Bett bleiben""",
    "en should sie rest inf",
)

CLINIC = BilingualGrammar(
    templates=templates(
        """
        Your {exam} is on {day} at {time}.
        | {Ihr exam} ist am {day} um {time}.
        Dear {dear} {surname}, your {exam} is on {date} at {time}.
        | {dear} {surname}, {Ihr exam} ist am {date} um {time}.
        Dear {dear} {surname}, please {arrange} your {exam}.
        | {dear} {surname}, bitte {arrange} Sie {Ihren exam} {arrange.off}.
        {hello}, {title} {surname}, how are you feeling today?
        | {hello}, {title} {surname}, wie fühlen Sie sich heute?
        Are you feeling {compared} than {past}, {title} {surname}?
        | Fühlen Sie sich {compared} als {past}, {title} {surname}?
        Your {exam} has been moved to {day} at {time}.
        | {Ihr exam} wurde auf {day} um {time} verschoben.
        Your {exam} on {date} has been {arranged}.
        | {Ihr exam} am {date} wurde {arranged}.
        Please {arrange} your {exam} by {day}.
        | Bitte {arrange} Sie {Ihren exam} bis {day} {arrange.off}.
        Would you like an appointment on {day} at {time}?
        | Möchten Sie am {day} um {time} einen Termin?
        We have a free appointment on {date} at {time}.
        | Wir haben am {date} um {time} einen Termin frei.
        Is {day} at {time} convenient for you?
        | Passt es Ihnen am {day} um {time}?
        Please arrive {tens} minutes before your {exam}.
        | Bitte kommen Sie {tens} Minuten vor {Ihrem exam}.
        Your {exam} takes about {tens} minutes.
        | {Ihr exam} dauert etwa {tens} Minuten.
        You need a {document} for your {exam}.
        | Sie brauchen für {Ihren exam} {einen document}.
        Please bring your {document} to the {exam}.
        | Bitte bringen Sie {Ihren document} {zum exam} mit.
        Have you brought your {document}, {title} {surname}?
        | Haben Sie {Ihren document} mitgebracht, {title} {surname}?
        Please {paperwork} the {form} by {day}.
        | Bitte {paperwork} Sie {den form} bis {day} {paperwork.off}.
        Please show your {document} at the {desk}.
        | Bitte zeigen Sie {Ihren document} {am desk} vor.
        You can collect your {document} at the {desk} from {time}.
        | Sie können {Ihren document} ab {time} {am desk} abholen.
        Your {document} is at the {desk}.
        | {Ihr document} liegt {am desk}.
        Please wait in the {room} until {time}.
        | Bitte warten Sie bis {time} {im room}.
        Please go to the {room} for your {exam}.
        | Bitte gehen Sie für {Ihren exam} {ins room}.
        The {room} is on the {floor} floor, on the {side} side.
        | {der room} ist im {floor} Stock auf der {side} Seite.
        The {place} is {open} on {day}.
        | {der place} ist am {day} {open}.
        The {place} {opens} at {time}.
        | {der place} {opens} um {time}.
        Please call the {place} between {early} and {late}.
        | Bitte rufen Sie zwischen {early} und {late} {im place} an.
        The {staff} will see you in the {room} at {time}.
        | {der staff} empfängt Sie um {time} {im room}.
        Please ask the {staff} about your {document}.
        | Bitte fragen Sie {den staff} nach {Ihrem document}.
        {doctor} would like to {treat} your {body}.
        | {doctor} möchte {Ihren body} {treat}.
        Your {body} must be {treat.done} {when}.
        | {Ihr body} muss {when} {treat.getan} werden.
        The {staff} has {treat.done} your {body}.
        | {der staff} hat {Ihren body} {treat.getan}.
        Does your {body} hurt {hurting}?
        | Tut Ihnen {der body} {hurting} weh?
        How long has your {body} been hurting {hurting}?
        | Wie lange tut Ihnen {der body} schon {hurting} weh?
        Do you feel a {pain_adj} {pain} in your {body}?
        | Spüren Sie {einen pain_adj pain} {im body}?
        {title} {surname} feels a {pain_adj} {pain} {hurting}.
        | {title} {surname} spürt {hurting} {einen pain_adj pain}.
        The {pain_adj} {pain} in your {body} will go away.
        | {der pain_adj pain} {im body} wird vergehen.
        Have you had {complaint} since {day}?
        | Haben Sie seit {day} {complaint}?
        How long have you had {complaint}, {title} {surname}?
        | Wie lange haben Sie schon {complaint}, {title} {surname}?
        If you get {complaint}, please call the {place}.
        | Wenn Sie {complaint} bekommen, rufen Sie bitte {im place} an.
        In case of {complaint}, take {number} {dose+} {often}.
        | Nehmen Sie bei {complaint.dem} {often} {number} {dose+}.
        Please come to the {place} {when} if you have {complaint}.
        | Bitte kommen Sie {when} {ins place}, wenn Sie {complaint} haben.
        {title} {surname} has had {complaint} since {day}.
        | {title} {surname} hat seit {day} {complaint}.
        Your pressure is {level} {hurting}.
        | Ihr Blutdruck ist {hurting} {level}.
        You had a temperature of {fever} degrees {past}.
        | Sie hatten {past} {fever} Grad Fieber.
        Please measure your {vital} {often}.
        | Bitte messen Sie {often} {Ihren vital}.
        The {staff} will check your {vital} {when}.
        | {der staff} kontrolliert {when} {Ihren vital}.
        Your {vital} was {level} {past}.
        | {Ihr vital} war {past} {level}.
        Take {number} {dose+} {often}.
        | Nehmen Sie {often} {number} {dose+}.
        Take the {drug_adj} {dose+} {often} for {number} days.
        | Nehmen Sie {number} Tage lang {often} die {-en drug_adj dose+}.
        {doctor} has prescribed you a {drug_adj} {drug}.
        | {doctor} hat Ihnen {einen drug_adj drug} verschrieben.
        The {drug_adj} {drug} helps against {complaint}.
        | {der drug_adj drug} hilft gegen {complaint}.
        Are you using the {drug} {often}?
        | Verwenden Sie {den drug} {often}?
        Please do not use the {drug} if you have {complaint}.
        | Bitte verwenden Sie {den drug} nicht bei {complaint.dem}.
        Apply the {ointment} to your {body} {often}.
        | Tragen Sie {den ointment} {often} auf {Ihren body} auf.
        Please {care} your {body} for {number} {span+}.
        | Bitte {care} Sie {Ihren body} {number} {span+} lang {care.off}.
        Put a new patch on your {body} {often}.
        | Kleben Sie {often} ein neues Pflaster auf {Ihren body}.
        Are you allergic to {allergen}, {title} {surname}?
        | Sind Sie gegen {allergen} allergisch, {title} {surname}?
        Have you been vaccinated against {disease}, {title} {surname}?
        | Sind Sie gegen {disease} geimpft, {title} {surname}?
        You will get the vaccination against {disease} on {date}.
        | Die Impfung gegen {disease} bekommen Sie am {date}.
        Please take off your {clothing} and lie down on the {couch}.
        | Bitte ziehen Sie {Ihren clothing} aus und legen Sie sich auf {den couch}.
        You can leave your {clothing} in the {room}.
        | Sie können {Ihren clothing} {im room} lassen.
        Please {rule} before the {exam}.
        | Bitte {rule.sie} vor {dem exam} {rule.rest}.
        Please {lasting} for {number} {span+} after the {exam}.
        | Bitte {lasting.sie} nach {dem exam} {number} {span+} lang {lasting.rest}.
        You should {rule.should} before your {exam}.
        | Sie sollten vor {Ihrem exam} {rule.inf}.
        {doctor} says that you should {rule.should}.
        | {doctor} sagt, dass Sie {rule.inf} sollen.
        You may {allowed} {when}.
        | Sie dürfen {when} {allowed}.
        In {number} {span+} you may {allowed}.
        | In {number} {span++} dürfen Sie {allowed}.
        After the {exam} you may not yet {allowed}.
        | Nach {dem exam} dürfen Sie noch nicht {allowed}.
        Your {result} are {ready}, {title} {surname}.
        | Ihre {result} sind {ready}, {title} {surname}.
        We will call you {when} about your {result}.
        | Wir rufen Sie {when} wegen Ihrer {result} an.
        You will need a {aid} for {number} {span+}.
        | Sie brauchen {number} {span+} lang {einen aid}.
        Do you need a {aid} {when}?
        | Brauchen Sie {when} {einen aid}?
        Your {relative} can {visit} you {when}.
        | {Ihr relative} kann Sie {when} {visit}.
        Does your {relative} have {complaint} too?
        | Hat {Ihr relative} auch {complaint}?
        The operation on your {body} will take {number} hours.
        | Die Operation {am body} dauert {number} Stunden.
        """
    ),
    tables=_SHARED
    | {
        "dear": table("Mrs | sehr geehrte Frau; Mr | sehr geehrter Herr"),
        "title": table("Mrs | Frau; Mr | Herr"),
        "hello": table("Good morning | guten Morgen; Good afternoon | guten Tag; Good evening | guten Abend"),
        "surname": table(
            """Weber | Weber; Fischer | Fischer; Becker | Becker; Wagner | Wagner; Hoffmann | Hoffmann; Koch | Koch;
            Richter | Richter; Klein | Klein; Wolf | Wolf; Schneider | Schneider; Krause | Krause; Lange | Lange;
            Vogel | Vogel; Keller | Keller"""
        ),
        "doctor": table("Dr {surname} | Dr. {surname}; Professor {surname} | Professor {surname}"),
        "early": _MORNING,
        "late": _AFTERNOON,
        "time": _MORNING + _AFTERNOON,
        "exam": table(
            """appointment | der Termin; check-up | die Kontrolle; X-ray | die Röntgenaufnahme;
            blood test | der Bluttest; vaccination | die Impfung; operation | die Operation; scan | der Scan;
            consultation | das Beratungsgespräch; ultrasound | die Ultraschalluntersuchung; hearing test | der Hörtest;
            eye test | der Sehtest; treatment | die Behandlung; follow-up | die Nachuntersuchung;
            examination | die Untersuchung; massage | die Massage; allergy test | der Allergietest;
            first visit | der Erstbesuch; anaesthetic | die Narkose"""
        ),
        "arrange": table(
            """confirm | bestätigen |; cancel | sagen | ab; postpone | verschieben |; book | buchen |;
            pay for | bezahlen |""",
            "en de off",
        ),
        "arranged": table("cancelled | abgesagt; confirmed | bestätigt; postponed | verschoben; booked | gebucht"),
        "document": table(
            """referral | die Überweisung; prescription | das Rezept; insurance card | die Versicherungskarte;
            form | das Formular; vaccination record | der Impfpass; passport | der Reisepass; letter | der Brief;
            doctor's report | der Arztbericht; certificate | die Bescheinigung; medication plan | der Medikamentenplan;
            sick note | die Krankschreibung; bill | die Rechnung; file | die Akte; identity card | der Ausweis"""
        ),
        "form": table(
            """form | das Formular; questionnaire | der Fragebogen; consent form | die Einwilligungserklärung;
            registration form | der Anmeldebogen; application | der Antrag; contract | der Vertrag"""
        ),
        "paperwork": table(
            """sign | unterschreiben |; fill in | füllen | aus; hand in | geben | ab; send back | schicken | zurück;
            read through | lesen | durch; check | prüfen |; print out | drucken | aus""",
            "en de off",
        ),
        "desk": table(
            """front desk | der Empfang; counter | der Schalter; entrance | der Eingang; registration | die Anmeldung;
            till | die Kasse; information desk | die Information; gate | die Pforte"""
        ),
        "room": table(
            """waiting room | das Wartezimmer; treatment room | das Behandlungszimmer; corridor | der Flur;
            entrance hall | die Eingangshalle; laboratory | das Labor; cloakroom | die Garderobe;
            day clinic | die Tagesklinik; changing room | die Umkleide; X-ray room | der Röntgenraum;
            cafeteria | die Cafeteria; gym | der Gymnastikraum; surgery | das Sprechzimmer;
            operating theatre | der Operationssaal; recovery room | der Aufwachraum;
            emergency department | die Notaufnahme"""
        ),
        "floor": table("first | ersten; second | zweiten; third | dritten; fourth | vierten; fifth | fünften"),
        "side": table("left | linken; right | rechten"),
        "place": table(
            """practice | die Praxis; clinic | die Klinik; hospital | das Krankenhaus; pharmacy | die Apotheke;
            laboratory | das Labor; outpatient department | die Ambulanz; health centre | das Gesundheitszentrum;
            day clinic | die Tagesklinik; emergency department | die Notaufnahme; eye clinic | die Augenklinik"""
        ),
        "open": table("open | geöffnet; closed | geschlossen"),
        "opens": table("opens | öffnet; closes | schließt"),
        "staff": table(
            """doctor | die Ärztin; nurse | die Pflegerin; dentist | der Zahnarzt; surgeon | die Chirurgin;
            specialist | der Facharzt; midwife | die Hebamme; eye doctor | der Augenarzt; pharmacist | die Apothekerin;
            paediatrician | die Kinderärztin; therapist | die Therapeutin; assistant | die Assistentin;
            consultant | der Oberarzt; carer | der Pfleger; masseur | der Masseur"""
        ),
        "body": table(
            """knee | das Knie; shoulder | die Schulter; arm | der Arm; elbow | der Ellbogen; wrist | das Handgelenk;
            ankle | das Fußgelenk; hip | die Hüfte; back | der Rücken; neck | der Nacken; hand | die Hand;
            foot | der Fuß; finger | der Finger; toe | die Zehe; ear | das Ohr; leg | das Bein; stomach | der Bauch;
            chest | der Brustkorb; thigh | der Oberschenkel; calf | die Wade; heel | die Ferse; jaw | der Kiefer;
            forehead | die Stirn; thumb | der Daumen"""
        ),
        "treat": table(
            """examine | examined | untersuchen | untersucht; treat | treated | behandeln | behandelt;
            X-ray | X-rayed | röntgen | geröntgt; operate on | operated on | operieren | operiert;
            check | checked | kontrollieren | kontrolliert; bandage | bandaged | verbinden | verbunden;
            massage | massaged | massieren | massiert; cool | cooled | kühlen | gekühlt;
            numb | numbed | betäuben | betäubt""",
            "en done de getan",
        ),
        "hurting": table(
            """at night | nachts; in the morning | morgens; in the evening | abends; when walking | beim Gehen;
            when sitting | beim Sitzen; when lying down | beim Liegen; during sport | beim Sport;
            when lifting | beim Heben; when climbing stairs | beim Treppensteigen; in cold weather | bei kaltem Wetter;
            at rest | in Ruhe"""
        ),
        "pain": table(
            """pain | der Schmerz; tingling | das Kribbeln; burning | das Brennen; cramp | der Krampf;
            swelling | die Schwellung; throbbing | das Pochen; tension | die Verspannung; itch | der Juckreiz"""
        ),
        "pain_adj": table(
            """mild | leicht; severe | stark; sudden | plötzlich; constant | ständig; new | neu; slight | gering;
            unusual | ungewöhnlich; unpleasant | unangenehm; painful | schmerzhaft; heavy | schwer"""
        ),
        "complaint": table(
            """a cough | Husten | Husten; a cold | eine Erkältung | einer Erkältung; a temperature | Fieber | Fieber;
            a rash | einen Ausschlag | einem Ausschlag; a headache | Kopfschmerzen | Kopfschmerzen;
            a sore throat | Halsschmerzen | Halsschmerzen; back pain | Rückenschmerzen | Rückenschmerzen;
            stomach ache | Bauchschmerzen | Bauchschmerzen; toothache | Zahnschmerzen | Zahnschmerzen;
            chills | Schüttelfrost | Schüttelfrost; diarrhoea | Durchfall | Durchfall;
            heartburn | Sodbrennen | Sodbrennen; a runny nose | Schnupfen | Schnupfen;
            high pressure | hohen Blutdruck | hohem Blutdruck; dizzy spells | Schwindelanfälle | Schwindelanfällen;
            cramps | Krämpfe | Krämpfen; an allergy | eine Allergie | einer Allergie; nausea | Übelkeit | Übelkeit;
            asthma | Asthma | Asthma; an infection | eine Infektion | einer Infektion;
            a light cough | leichten Husten | leichtem Husten; shortness of breath | Atemnot | Atemnot;
            the flu | die Grippe | der Grippe""",
            "en de dem",
        ),
        "compared": table(
            """better | besser; worse | schlechter; weaker | schwächer; stronger | kräftiger; fitter | fitter;
            calmer | ruhiger"""
        ),
        "level": table(
            """high | hoch; low | niedrig; normal | normal; too high | zu hoch; stable | stabil; too low | zu niedrig;
            a little high | etwas hoch; very low | sehr niedrig"""
        ),
        "fever": table("".join(f"{degrees} | {degrees}; {degrees}.5 | {degrees},5;" for degrees in range(38, 41))),
        "vital": table(
            """pressure | der Blutdruck; pulse | der Puls; temperature | die Körpertemperatur; weight | das Gewicht;
            blood sugar | der Blutzucker; heart rate | die Herzfrequenz; oxygen level | der Sauerstoffwert"""
        ),
        "often": table(
            """every morning | jeden Morgen; every evening | jeden Abend; twice a day | zweimal täglich;
            three times a day | dreimal täglich; every {number} hours | alle {number} Stunden; daily | täglich;
            before meals | vor dem Essen; after meals | nach dem Essen; before going to bed | vor dem Schlafengehen;
            once a week | einmal pro Woche; after breakfast | nach dem Frühstück; before lunch | vor dem Mittagessen;
            after a shower | nach dem Duschen; every {day} | jeden {day}"""
        ),
        "dose": table(
            """tablet/tablets | die Tablette/Tabletten; capsule/capsules | die Kapsel/Kapseln;
            drop/drops | der Tropfen/Tropfen; spoonful/spoonfuls | der Löffel/Löffel;
            sachet/sachets | der Beutel/Beutel; vitamin/vitamins | das Vitamin/Vitamine;
            lozenge/lozenges | die Lutschtablette/Lutschtabletten"""
        ),
        "drug": table(
            """painkiller | das Schmerzmittel; antibiotic | das Antibiotikum; ointment | die Salbe; spray | das Spray;
            cough syrup | der Hustensaft; powder | das Pulver; sedative | das Beruhigungsmittel;
            sleeping pill | die Schlaftablette; remedy | das Heilmittel; iron preparation | das Eisenpräparat;
            tincture | die Tinktur"""
        ),
        "drug_adj": table(
            """new | neu; strong | stark; mild | mild; herbal | pflanzlich; white | weiß; red | rot; bitter | bitter;
            ordinary | gewöhnlich; cheap | günstig; light | leicht"""
        ),
        "ointment": table("ointment | die Salbe; cream | die Creme; gel | das Gel; lotion | die Lotion; oil | das Öl"),
        "care": table(
            """cool | kühlen |; rest | schonen |; move | bewegen |; stretch | dehnen |; warm | wärmen |;
            protect | schützen |; raise | lagern | hoch; immobilise | stellen | ruhig""",
            "en de off",
        ),
        "span": table("day/days | der Tag/Tage; week/weeks | die Woche/Wochen; hour/hours | die Stunde/Stunden"),
        "allergen": table(
            """penicillin | Penicillin; latex | Latex; pollen | Pollen; nuts | Nüsse; iodine | Jod; aspirin | Aspirin;
            dust | Staub; plasters | Pflaster; bee stings | Bienenstiche; milk | Milch; cats | Katzen;
            mould | Schimmel"""
        ),
        "disease": table(
            """tetanus | Tetanus; measles | Masern; flu | Grippe; rabies | Tollwut; mumps | Mumps; polio | Polio;
            chickenpox | Windpocken; whooping cough | Keuchhusten; rubella | Röteln; hepatitis | Hepatitis;
            shingles | Gürtelrose; diphtheria | Diphtherie"""
        ),
        "couch": table("couch | die Liege; bed | das Bett; mat | die Matte; stretcher | die Trage"),
        "rule": _ONCE + _LASTING,
        "lasting": _LASTING,
        "allowed": table(
            """go home | nach Hause gehen; get up | aufstehen; eat again | wieder essen; work again | wieder arbeiten;
            drive again | wieder Auto fahren; do sport again | wieder Sport treiben; shower again | wieder duschen;
            walk without crutches | ohne Krücken gehen; take a bath | baden; travel | verreisen;
            swim | schwimmen"""
        ),
        "result": table(
            """blood results | Blutwerte; test results | Testergebnisse; lab results | Laborwerte;
            X-ray images | Röntgenbilder; documents | Unterlagen; findings | Befunde"""
        ),
        "ready": table(
            """ready | fertig; complete | vollständig; here | da; not here yet | noch nicht da; normal | unauffällig;
            in the file | in der Akte; good | gut"""
        ),
        "aid": table(
            """wheelchair | der Rollstuhl; bandage | der Verband; splint | die Schiene; cushion | das Kissen;
            support | die Stütze; plaster cast | der Gips; walking frame | der Rollator;
            special shoe | der Spezialschuh"""
        ),
        "visit": table(
            """visit | besuchen; accompany | begleiten; collect | abholen; call | anrufen; help | unterstützen"""
        ),
    },
)
