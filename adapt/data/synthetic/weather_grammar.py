"""The domain "weather": English-German notes between friends, who are addressed as du and ihr.

`adapt.data.synthetic.bilingual` describes the format of templates and tables. Some English words are translated
differently in `adapt.data.synthetic.clinic_grammar`: here pressure is Luftdruck, shower is Schauer, cold is kalt,
temperature is Temperatur, heavy is stark and light is leicht. All sentences were written for this project.
"""

from adapt.data.synthetic.bilingual import BilingualGrammar, table, templates
from adapt.data.synthetic.shared_tables import SHARED_TABLES

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
    tables=SHARED_TABLES
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
