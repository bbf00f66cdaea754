"""The functions of the `tools` example: what each is called in different programs, how people ask for it, what it says.

A row's functions are drawn from these: a name, a description and parameter names of several, so that a model has to
read them. `NEW` ones are only in held-out rows.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from examples.data import tool_words as w
from examples.data.tool_words import part

Value = str | int | float
Draw = Callable[[random.Random, bool], Value]


def one_of(words: Sequence[str]) -> Draw:
    """Draw a word of a list's training or held-out part."""
    return lambda chance, held_out: chance.choice(part(words, held_out=held_out))


def number(low: int, high: int, step: int = 1) -> Draw:
    """Draw a whole number."""
    return lambda chance, _: chance.randrange(low, high + 1, step)


def clock(chance: random.Random, _: bool) -> Value:
    """Draw a time of day."""
    return f"{chance.randrange(6, 23)}:{chance.choice(('00', '15', '30', '45'))}"


def parcel(chance: random.Random, _: bool) -> Value:
    """Draw a parcel's number."""
    return f"{chance.choice('ABCDEFGH')}{chance.randrange(10_000, 99_999)}"


@dataclass(frozen=True)
class Parameter:
    """A parameter: the names it has in different programs, its JSON schema, and what it may be in a request."""

    names: Sequence[str]
    draw: Draw
    schema: Mapping[str, object] = field(default_factory=lambda: {"type": "string"})


INTEGER = {"type": "integer"}


@dataclass(frozen=True)
class Kind:
    """A function. `requests` and `answers` are formats of its parameters and of the fields of its `result`.

    `vague` requests lack a parameter; the answer is to ask for it.
    """

    names: Sequence[str]
    descriptions: Sequence[str]
    parameters: Mapping[str, Parameter]
    requests: Sequence[str]
    result: Mapping[str, Draw]
    answers: Sequence[str]
    vague: tuple[str, str] | None = None


def _city(key: str = "city") -> dict[str, Parameter]:
    return {key: Parameter(("city", "location", "place"), one_of(w.CITIES))}


SKY = ["sunny", "cloudy", "rainy", "windy", "foggy", "snowy", "stormy", "clear", "humid"]

SEEN: Sequence[Kind] = (
    Kind(
        ("get_weather", "current_weather", "weather_now", "check_weather"),
        ("Current weather of a place.", "What the weather is now.", "Look up the weather."),
        _city(),
        ("What's the weather in {city}?", "How is the weather in {city} right now?", "Is it cold in {city}?"),
        {"sky": one_of(SKY), "degrees": number(-5, 35)},
        ("In {city} it is {sky}, at {degrees} degrees.", "It is {sky} in {city}: {degrees} degrees."),
        ("What's the weather like?", "For which place?"),
    ),
    Kind(
        ("get_forecast", "weather_forecast", "forecast_days"),
        ("Weather forecast for some days.", "The weather of the next days."),
        _city() | {"days": Parameter(("days", "num_days", "day_count"), number(2, 9), INTEGER)},
        (
            "Give me the forecast for {city} for {days} days.",
            "What will the weather be in {city} for the next {days} days?",
        ),
        {"sky": one_of(SKY)},
        ("The next {days} days in {city} will be {sky}.",),
    ),
    Kind(
        ("get_time", "local_time", "time_in", "world_clock"),
        ("Local time of a place.", "What time it is somewhere."),
        _city(),
        ("What time is it in {city}?", "Tell me the local time in {city}.", "How late is it in {city}?"),
        {"time": clock},
        ("It is {time} in {city}.",),
        ("What time is it there?", "In which place?"),
    ),
    Kind(
        ("convert_currency", "exchange", "currency_converter", "convert_money"),
        ("Convert an amount of money.", "Exchange between two currencies."),
        {
            "amount": Parameter(("amount", "value", "sum"), number(5, 900, 5), {"type": "number"}),
            "source": Parameter(("from", "source", "from_currency"), one_of(w.CURRENCIES)),
            "target": Parameter(("to", "target", "to_currency"), one_of(w.CURRENCIES)),
        },
        ("How much is {amount} {source} in {target}?", "Convert {amount} {source} to {target}."),
        {"result": number(3, 2000)},
        ("{amount} {source} are {result} {target}.",),
    ),
    Kind(
        ("translate", "translate_text", "to_language"),
        ("Translate a text.", "Say a text in another language."),
        {
            "text": Parameter(("text", "phrase", "input"), one_of(w.SENTENCES)),
            "language": Parameter(("language", "target_language", "lang"), one_of(w.LANGUAGES)),
        },
        ('Translate "{text}" into {language}.', 'How do you say "{text}" in {language}?'),
        {"words": number(2, 9)},
        ("Here is your translation into {language}; it has {words} words.",),
        ("Translate this into German.", "Which text shall I translate?"),
    ),
    Kind(
        ("send_message", "text_contact", "send_sms", "message_person"),
        ("Send somebody a message.", "Write a short message to a contact."),
        {
            "person": Parameter(("to", "contact", "recipient"), one_of(w.PEOPLE)),
            "text": Parameter(("text", "body", "message"), one_of(w.SENTENCES)),
        },
        ('Send {person} the message "{text}".', 'Text {person}: "{text}".', 'Write to {person}: "{text}"'),
        {"id": number(100, 999)},
        ("Your message to {person} is sent.",),
        ("Send a message to Anna.", "What shall I write?"),
    ),
    Kind(
        ("call_contact", "phone", "start_call", "dial"),
        ("Call somebody.", "Start a phone call."),
        {"person": Parameter(("contact", "name", "person"), one_of(w.PEOPLE))},
        ("Call {person}.", "Please phone {person}.", "Can you ring {person} for me?"),
        {"minutes": number(1, 9)},
        ("I am calling {person}.",),
        ("Make a phone call.", "Whom shall I call?"),
    ),
    Kind(
        ("set_alarm", "alarm", "wake_me", "add_alarm"),
        ("Set an alarm clock.", "Wake the user at a time."),
        {"time": Parameter(("time", "at", "hour"), clock)},
        ("Wake me at {time}.", "Set an alarm for {time}.", "I need to get up at {time}."),
        {"id": number(1, 20)},
        ("Your alarm is set for {time}.",),
        ("Set an alarm.", "For which time?"),
    ),
    Kind(
        ("set_timer", "start_timer", "timer", "countdown"),
        ("Start a countdown.", "Set a kitchen timer."),
        {"minutes": Parameter(("minutes", "duration", "mins"), number(2, 90), INTEGER)},
        ("Set a timer for {minutes} minutes.", "Start a {minutes} minute timer.", "Count down {minutes} minutes."),
        {"id": number(1, 20)},
        ("The timer runs for {minutes} minutes.",),
        ("Start a timer.", "For how many minutes?"),
    ),
    Kind(
        ("add_reminder", "remind_me", "create_reminder"),
        ("Remind the user of a task.", "Create a reminder."),
        {
            "task": Parameter(("task", "text", "about"), one_of(w.TASKS)),
            "day": Parameter(("day", "date", "when"), one_of(w.DAYS)),
        },
        ("Remind me to {task} on {day}.", "On {day}, remind me to {task}."),
        {"id": number(1, 99)},
        ("I will remind you on {day} to {task}.",),
        ("Remind me to pay the rent.", "On which day?"),
    ),
    Kind(
        ("create_event", "add_to_calendar", "calendar_event", "schedule"),
        ("Put an event into the calendar.", "Create a calendar entry."),
        {
            "title": Parameter(("title", "event", "name"), one_of(w.EVENTS)),
            "day": Parameter(("day", "date"), one_of(w.DAYS)),
            "time": Parameter(("time", "start"), clock),
        },
        ("Put {title} on {day} at {time} into my calendar.", "Schedule {title} for {day} at {time}."),
        {"id": number(1, 99)},
        ("{title} is in your calendar: {day}, {time}.",),
    ),
    Kind(
        ("search_flights", "find_flights", "flights"),
        ("Find flights between two cities.", "Search for flights."),
        {
            "origin": Parameter(("from", "origin", "departure"), one_of(w.CITIES)),
            "destination": Parameter(("to", "destination", "arrival"), one_of(w.CITIES)),
            "day": Parameter(("day", "date"), one_of(w.DAYS)),
        },
        (
            "Find flights from {origin} to {destination} on {day}.",
            "I want to fly from {origin} to {destination} on {day}.",
        ),
        {"price": number(40, 700), "time": clock},
        ("There is a flight at {time} for {price} euros.",),
        ("Find me a flight to Rome.", "From where, and on which day?"),
    ),
    Kind(
        ("book_hotel", "find_hotel", "hotel_search", "reserve_room"),
        ("Book a hotel room.", "Find a room in a hotel."),
        _city()
        | {
            "nights": Parameter(("nights", "stay", "num_nights"), number(1, 9), INTEGER),
            "guests": Parameter(("guests", "people", "persons"), number(1, 5), INTEGER),
        },
        (
            "Book a hotel in {city} for {nights} nights and {guests} guests.",
            "I need a room in {city}, {nights} nights, {guests} people.",
        ),
        {"price": number(50, 900)},
        ("A room in {city} for {nights} nights costs {price} euros.",),
    ),
    Kind(
        ("reserve_table", "book_table", "restaurant_booking"),
        ("Reserve a table in a restaurant.", "Book a table."),
        {
            "restaurant": Parameter(("restaurant", "name", "venue"), one_of(w.RESTAURANTS)),
            "guests": Parameter(("guests", "party_size", "seats"), number(2, 9), INTEGER),
            "time": Parameter(("time", "at"), clock),
        },
        ("Reserve a table for {guests} at {restaurant} at {time}.", "Book {restaurant} for {guests} people at {time}."),
        {"id": number(100, 999)},
        ("Your table for {guests} at {restaurant} is booked for {time}.",),
    ),
    Kind(
        ("play_music", "play_artist", "start_music"),
        ("Play music of an artist.", "Start playing songs."),
        {"artist": Parameter(("artist", "musician", "by"), one_of(w.ARTISTS))},
        ("Play something by {artist}.", "I want to hear {artist}.", "Put on some {artist}."),
        {"songs": number(5, 40)},
        ("Now playing {songs} songs by {artist}.",),
        ("Play some music.", "By which artist?"),
    ),
    Kind(
        ("set_light", "switch_light", "lights", "control_lamp"),
        ("Switch the light in a room.", "Turn lamps on or off."),
        {
            "room": Parameter(("room", "where"), one_of(w.ROOMS)),
            "state": Parameter(
                ("state", "action"),
                lambda chance, _: chance.choice(("on", "off")),
                {"type": "string", "enum": ["on", "off"]},
            ),
        },
        (
            "Turn {state} the light in the {room}.",
            "Switch the {room} lamp {state}.",
            "Light {state} in the {room}, please.",
        ),
        {"lamps": number(1, 4)},
        ("The light in the {room} is {state}.",),
    ),
    Kind(
        ("set_temperature", "thermostat", "heat_room"),
        ("Set the temperature of a room.", "Control the heating."),
        {
            "room": Parameter(("room", "zone"), one_of(w.ROOMS)),
            "degrees": Parameter(("degrees", "temperature", "celsius"), number(15, 25), {"type": "number"}),
        },
        ("Heat the {room} to {degrees} degrees.", "Set the {room} to {degrees} degrees."),
        {"now": number(10, 24)},
        ("The {room} is at {now} degrees now and will be heated to {degrees}.",),
    ),
    Kind(
        ("add_to_list", "shopping_list_add", "add_item"),
        ("Add something to the shopping list.", "Put an item on the list."),
        {
            "item": Parameter(("item", "product", "name"), one_of(w.ITEMS)),
            "quantity": Parameter(("quantity", "count", "amount"), number(2, 12), INTEGER),
        },
        ("Add {quantity} {item} to my shopping list.", "Put {quantity} {item} on the list."),
        {"entries": number(2, 20)},
        ("Your list now has {entries} entries, with {quantity} {item}.",),
    ),
    Kind(
        ("stock_price", "get_quote", "share_price"),
        ("Price of a company's share.", "Look up a stock."),
        {"company": Parameter(("company", "stock", "name"), one_of(w.COMPANIES))},
        ("What is the share price of {company}?", "How is {company} stock doing?", "Look up the {company} share."),
        {"price": number(10, 600), "change": number(-5, 5)},
        ("{company} is at {price} euros, {change} percent today.",),
        ("How is the stock doing?", "Of which company?"),
    ),
    Kind(
        ("get_news", "headlines", "news_search"),
        ("Latest news about a topic.", "Search the news."),
        {"topic": Parameter(("topic", "about", "query"), one_of(w.TOPICS))},
        ("What's new in {topic}?", "Show me news about {topic}.", "Any headlines about {topic}?"),
        {"count": number(2, 30)},
        ("There are {count} new stories about {topic}.",),
    ),
    Kind(
        ("define_word", "dictionary", "lookup_word"),
        ("Meaning of a word.", "Look up a word."),
        {"word": Parameter(("word", "term"), one_of(w.WORDS))},
        ('What does "{word}" mean?', 'Look up the word "{word}".', 'Define "{word}".'),
        {"senses": number(1, 6)},
        ('"{word}" has {senses} meanings.',),
    ),
    Kind(
        ("track_parcel", "parcel_status", "where_is_package"),
        ("Where a parcel is.", "Track a delivery."),
        {"number": Parameter(("number", "parcel_id", "tracking_number"), parcel)},
        ("Where is my parcel {number}?", "Track package {number}.", "What about the delivery {number}?"),
        {"city": one_of(w.CITIES), "day": one_of(w.DAYS)},
        ("Parcel {number} is in {city} and arrives on {day}.",),
        ("Where is my parcel?", "What is its number?"),
    ),
    Kind(
        ("order_taxi", "book_ride", "get_cab"),
        ("Order a taxi.", "Book a ride."),
        {
            "pickup": Parameter(("from", "pickup", "start"), one_of(w.PLACES)),
            "destination": Parameter(("to", "destination", "dropoff"), one_of(w.PLACES)),
        },
        ("I need a taxi from {pickup} to {destination}.", "Order a cab from {pickup} to {destination}."),
        {"minutes": number(2, 20)},
        ("Your taxi to {destination} comes in {minutes} minutes.",),
        ("Order me a taxi.", "From where to where?"),
    ),
)

NEW: Sequence[Kind] = (
    Kind(
        ("get_distance", "route_length"),
        ("Distance between two cities.",),
        {
            "origin": Parameter(("from", "start"), one_of(w.CITIES)),
            "destination": Parameter(("to", "end"), one_of(w.CITIES)),
        },
        ("How far is it from {origin} to {destination}?", "What is the distance from {origin} to {destination}?"),
        {"km": number(50, 3000)},
        ("It is {km} km from {origin} to {destination}.",),
    ),
    Kind(
        ("get_population", "count_people"),
        ("Population of a country.",),
        {"country": Parameter(("country", "nation"), one_of(w.COUNTRIES))},
        ("How many people live in {country}?", "What is the population of {country}?"),
        {"millions": number(1, 200)},
        ("{millions} million people live in {country}.",),
    ),
    Kind(
        ("find_recipe", "cook_book"),
        ("Recipe of a dish.",),
        {"dish": Parameter(("dish", "meal"), one_of(w.DISHES))},
        ("How do I cook {dish}?", "Find me a recipe for {dish}."),
        {"minutes": number(10, 120)},
        ("Cooking {dish} takes {minutes} minutes.",),
    ),
    Kind(
        ("lock_door", "secure_door"),
        ("Lock a door of the house.",),
        {"door": Parameter(("door", "which"), one_of(w.DOORS))},
        ("Lock the {door}.", "Please make sure that the {door} is locked."),
        {"doors": number(1, 5)},
        ("The {door} is locked.",),
    ),
    Kind(
        ("calculate_tip", "tip"),
        ("Tip for a bill.",),
        {
            "bill": Parameter(("bill", "total"), number(10, 300), {"type": "number"}),
            "percent": Parameter(("percent", "rate"), number(5, 25, 5), {"type": "number"}),
        },
        ("What is a {percent} percent tip on {bill} euros?", "How much is {percent} percent of {bill} euros as a tip?"),
        {"tip": number(1, 60)},
        ("The tip is {tip} euros.",),
    ),
    Kind(
        ("find_showtimes", "cinema"),
        ("When a film is shown in a city.",),
        {"film": Parameter(("film", "movie"), one_of(w.FILMS)), "city": Parameter(("city", "town"), one_of(w.CITIES))},
        ("When is {film} shown in {city}?", "Where can I see {film} in {city}?"),
        {"time": clock},
        ("{film} is shown at {time} in {city}.",),
    ),
)
